"""Further families as diffusers builds them, in small: video, grouped queries, fused projections, linear attention, audio.

Each has two blocks of each kind and 6 heads, like those of `families.py`. Lumina 2 and Qwen-Image rotate by complex numbers,
which ONNX has not; `z_image.rotate` does the same by real ones.
"""

import torch
from diffusers import (
    AuraFlowTransformer2DModel,
    ChromaTransformer2DModel,
    CogVideoXTransformer3DModel,
    Flux2Transformer2DModel,
    LTXVideoTransformer3DModel,
    Lumina2Transformer2DModel,
    QwenImageTransformer2DModel,
    SanaTransformer2DModel,
    StableAudioDiTModel,
    StableCascadeUNet,
    UNet2DModel,
    WanTransformer3DModel,
)
from diffusers.models.transformers import transformer_lumina2, transformer_qwenimage

from z_image import pairs, rotate

HEADS = dict(num_attention_heads=6, attention_head_dim=16)


def times(sizes, value=601.0):
    return torch.full((sizes.batch,), value)


def picture(config, sizes):
    return torch.randn(sizes.batch, config["in_channels"], sizes.latent, sizes.latent)


def film(config, sizes, frames=3):
    return torch.randn(sizes.batch, config["in_channels"], frames, sizes.latent // 2, sizes.latent // 2)


def text(config, sizes, width):
    return torch.randn(sizes.batch, sizes.tokens, config[width])


# Video --------------------------------------------------------------------------------------------------------------

WAN = HEADS | dict(in_channels=4, out_channels=4, text_dim=64, freq_dim=32, ffn_dim=192, num_layers=2, rope_max_seq_len=64)
# Wan-AI/Wan2.1-T2V-14B-Diffusers, transformer/config.json
WAN_REAL = dict(
    num_attention_heads=40, attention_head_dim=128, in_channels=16, out_channels=16, text_dim=4096, freq_dim=256,
    ffn_dim=13824, num_layers=40,
)


def wan_inputs(config, sizes):
    return {
        "hidden_states": film(config, sizes),
        "timestep": times(sizes),
        "encoder_hidden_states": text(config, sizes, "text_dim"),
    }


LTX = HEADS | dict(in_channels=16, out_channels=16, cross_attention_dim=96, num_layers=2, caption_channels=64)
FRAMES, SIDE = 2, 6


def ltx_inputs(config, sizes):
    return {
        "hidden_states": torch.randn(sizes.batch, FRAMES * SIDE * SIDE, config["in_channels"]),
        "encoder_hidden_states": text(config, sizes, "caption_channels"),
        "timestep": times(sizes),
        "encoder_attention_mask": torch.ones(sizes.batch, sizes.tokens),
    }


def ltx_call(model, **inputs):
    return model(**inputs, num_frames=FRAMES, height=SIDE, width=SIDE, return_dict=False)[0]


COGVIDEOX = HEADS | dict(
    in_channels=4, out_channels=4, time_embed_dim=48, text_embed_dim=64, num_layers=2, sample_width=8, sample_height=8,
    sample_frames=9, max_text_seq_length=10,
)


def cogvideox_inputs(config, sizes):
    return {
        "hidden_states": film(config, sizes).transpose(1, 2).contiguous(),
        "encoder_hidden_states": text(config, sizes, "text_embed_dim"),
        "timestep": times(sizes),
    }


# Grouped queries ----------------------------------------------------------------------------------------------------

LUMINA2 = dict(
    sample_size=16, in_channels=4, hidden_size=96, num_layers=2, num_refiner_layers=1, num_attention_heads=6, num_kv_heads=2,
    multiple_of=32, axes_dim_rope=(4, 6, 6), axes_lens=(64, 64, 64), cap_feat_dim=64,
)


def rotate_in_reals(x, freqs_cis, use_real=False):
    """`apply_rotary_emb` of a table `[batch, tokens, head size / 2, 2]`."""
    cosines, sines = freqs_cis.unsqueeze(2).unbind(-1)
    return rotate(pairs(x.float()), cosines, sines).type_as(x)


class FullCaptions(torch.nn.Module):
    """Lumina 2's rotations for captions of full length, so that no size depends on the mask; tables as for `rotate_in_reals`."""

    def __init__(self, original):
        super().__init__()
        self.patch = original.patch_size
        self.tables = [torch.view_as_real(table).float() for table in original.freqs_cis]

    def forward(self, hidden_states, attention_mask):
        batch, channels, height, width = hidden_states.shape
        rows, columns, caption = height // self.patch, width // self.patch, attention_mask.shape[1]
        along = torch.cat([torch.arange(caption), torch.full((rows * columns,), caption)])
        down = torch.cat([torch.zeros(caption, dtype=torch.long), torch.arange(rows).repeat_interleave(columns)])
        across = torch.cat([torch.zeros(caption, dtype=torch.long), torch.arange(columns).repeat(rows)])
        whole = torch.cat([table[ids] for table, ids in zip(self.tables, (along, down, across))], dim=1)
        whole = whole.expand(batch, *whole.shape)
        patches = hidden_states.view(batch, channels, rows, self.patch, columns, self.patch)
        patches = patches.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        lengths = [caption] * batch
        return patches, whole[:, :caption], whole[:, caption:], whole, lengths, [caption + rows * columns] * batch


def build_lumina2(**config):
    transformer_lumina2.apply_rotary_emb = rotate_in_reals
    model = Lumina2Transformer2DModel(**config)
    model.rope_embedder = FullCaptions(model.rope_embedder)
    return model


def lumina2_inputs(config, sizes):
    return {
        "hidden_states": picture(config, sizes),
        "timestep": times(sizes, 0.4),
        "encoder_hidden_states": text(config, sizes, "cap_feat_dim"),
    }


def lumina2_call(model, encoder_hidden_states, **inputs):
    mask = torch.ones(encoder_hidden_states.shape[:2], dtype=torch.bool)
    return model(encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=mask, **inputs, return_dict=False)[0]


STABLE_AUDIO = HEADS | dict(
    sample_size=24, in_channels=8, num_layers=2, num_key_value_attention_heads=3, out_channels=8, cross_attention_dim=48,
    time_proj_dim=32, global_states_input_dim=64, cross_attention_input_dim=48,
)


def stable_audio_inputs(config, sizes):
    return {
        "hidden_states": torch.randn(sizes.batch, config["in_channels"], config["sample_size"]),
        "timestep": times(sizes, 0.6),
        "encoder_hidden_states": text(config, sizes, "cross_attention_input_dim"),
        "global_hidden_states": torch.randn(sizes.batch, 1, config["global_states_input_dim"]),
    }


def stable_audio_call(model, hidden_states, **inputs):
    angles = torch.outer(torch.arange(hidden_states.shape[-1] + 1).float(), 0.3 ** torch.arange(4).float())
    angles = torch.cat([angles, angles], dim=-1)
    return model(hidden_states, rotary_embedding=(angles.cos(), angles.sin()), **inputs, return_dict=False)[0]


# Joint attention ----------------------------------------------------------------------------------------------------

AURAFLOW = HEADS | dict(
    sample_size=16, in_channels=4, num_mmdit_layers=2, num_single_dit_layers=2, joint_attention_dim=64,
    caption_projection_dim=96, pos_embed_max_size=64,
)


def auraflow_inputs(config, sizes):
    return {
        "hidden_states": picture(config, sizes),
        "encoder_hidden_states": text(config, sizes, "joint_attention_dim"),
        "timestep": times(sizes, 0.6),
    }


QWEN_IMAGE = HEADS | dict(in_channels=16, out_channels=4, num_layers=2, joint_attention_dim=64, axes_dims_rope=(4, 6, 6))
# Qwen/Qwen-Image, transformer/config.json
QWEN_IMAGE_REAL = dict(
    num_attention_heads=24, attention_head_dim=128, in_channels=64, out_channels=16, num_layers=60, joint_attention_dim=3584,
    axes_dims_rope=(16, 56, 56),
)


# Patches a side, and tokens of text: of the small export and of the real one.
QWEN_IMAGE_SIZES = ((8, 10), (64, 77))


class RealTables(torch.nn.Module):
    """Qwen-Image's rotations of one size of picture as constants `[tokens, head size / 2, 2]`."""

    def __init__(self, original):
        super().__init__()
        # A model without weights is built where tensors have no values, and these must have them.
        with torch.device("cpu"):
            whole = type(original)(original.theta, original.axes_dim, original.scale_rope)
            self.known = {size: self.tables(whole, *size) for size in QWEN_IMAGE_SIZES}

    @staticmethod
    def tables(original, side, tokens):
        return [torch.view_as_real(table) for table in original([(1, side, side)], max_txt_seq_len=tokens)]

    def forward(self, shapes, max_txt_seq_len=None, device=None):
        return self.known[shapes[0][1], int(max_txt_seq_len)]


def build_qwen_image(**config):
    def rotate_tokens(x, freqs_cis, use_real=False):
        return rotate_in_reals(x, freqs_cis.unsqueeze(0))

    transformer_qwenimage.apply_rotary_emb_qwen = rotate_tokens
    model = QwenImageTransformer2DModel(**config)
    model.pos_embed = RealTables(model.pos_embed)
    return model


def qwen_image_inputs(config, sizes):
    return {
        "hidden_states": torch.randn(sizes.batch, (sizes.latent // 2) ** 2, config["in_channels"]),
        "encoder_hidden_states": text(config, sizes, "joint_attention_dim"),
        "timestep": times(sizes, 0.6),
    }


def qwen_image_call(model, hidden_states, **inputs):
    side = int(hidden_states.shape[1] ** 0.5)
    shapes = [(1, side, side)] * hidden_states.shape[0]
    return model(hidden_states, img_shapes=shapes, **inputs, return_dict=False)[0]


def positions(sizes, axes):
    side = sizes.latent // 2
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    zeros = [torch.zeros_like(rows)] * (axes - 3)
    ids = torch.stack([torch.zeros_like(rows), rows, columns, *zeros], -1).reshape(-1, axes).float()
    return {"img_ids": ids, "txt_ids": torch.zeros(sizes.tokens, axes)}


FLUX2 = HEADS | dict(
    in_channels=16, num_layers=2, num_single_layers=2, joint_attention_dim=64, timestep_guidance_channels=32,
    axes_dims_rope=(4, 4, 4, 4),
)
# black-forest-labs/FLUX.2-dev, transformer/config.json
FLUX2_REAL = dict(
    in_channels=128, num_layers=8, num_single_layers=48, attention_head_dim=128, num_attention_heads=48,
    joint_attention_dim=15360, axes_dims_rope=(32, 32, 32, 32),
)


def flux2_inputs(config, sizes):
    return {
        "hidden_states": torch.randn(sizes.batch, (sizes.latent // 2) ** 2, config["in_channels"]),
        "encoder_hidden_states": text(config, sizes, "joint_attention_dim"),
        "timestep": times(sizes, 0.6),
        **positions(sizes, 4),
        "guidance": times(sizes, 3.5),
    }


CHROMA = HEADS | dict(
    in_channels=16, num_layers=2, num_single_layers=2, joint_attention_dim=64, axes_dims_rope=(4, 6, 6),
    approximator_num_channels=32, approximator_hidden_dim=96, approximator_layers=2,
)


def chroma_inputs(config, sizes):
    return {
        "hidden_states": torch.randn(sizes.batch, (sizes.latent // 2) ** 2, config["in_channels"]),
        "encoder_hidden_states": text(config, sizes, "joint_attention_dim"),
        "timestep": times(sizes, 0.6),
        **positions(sizes, 3),
    }


# Linear attention, and UNets of other kinds -------------------------------------------------------------------------

SANA = HEADS | dict(
    in_channels=4, out_channels=4, num_layers=2, num_cross_attention_heads=6, cross_attention_head_dim=16,
    cross_attention_dim=96, caption_channels=64, sample_size=8,
)


def sana_inputs(config, sizes):
    small = {"hidden_states": torch.randn(sizes.batch, config["in_channels"], 8, 8)}
    return small | {"encoder_hidden_states": text(config, sizes, "caption_channels"), "timestep": times(sizes)}


CASCADE_BLOCK = ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")
CASCADE = dict(
    in_channels=4, out_channels=4, timestep_ratio_embedding_dim=16, conditioning_dim=64, block_out_channels=(96, 96),
    num_attention_heads=(6, 6), down_num_layers_per_block=(1, 1), up_num_layers_per_block=(1, 1),
    block_types_per_layer=(CASCADE_BLOCK, CASCADE_BLOCK), clip_text_in_channels=48, clip_text_pooled_in_channels=48,
    clip_image_in_channels=48, switch_level=(False,), dropout=(0.0, 0.0),
)


def cascade_inputs(config, sizes):
    return {
        "sample": picture(config, sizes),
        "timestep_ratio": times(sizes, 0.6),
        "clip_text_pooled": torch.randn(sizes.batch, 1, 48),
        "clip_text": torch.randn(sizes.batch, sizes.tokens, 48),
        "clip_img": torch.randn(sizes.batch, 1, 48),
    }


CONSISTENCY = dict(
    sample_size=16, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(48, 96, 96),
    down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    attention_head_dim=16, norm_num_groups=12, resnet_time_scale_shift="scale_shift", attn_norm_num_groups=12,
    downsample_type="resnet", upsample_type="resnet", num_class_embeds=10,
)


def consistency_inputs(config, sizes):
    labels = torch.arange(sizes.batch) + 3
    return {"sample": picture(config, sizes), "timestep": times(sizes, 80.0), "class_labels": labels}


# Builder, small configuration, inputs, and where they differ from the ordinary: how it is called, the real configuration.
MORE = {
    "wan": dict(build=WanTransformer3DModel, small=WAN, inputs=wan_inputs, real=WAN_REAL),
    "ltx": dict(build=LTXVideoTransformer3DModel, small=LTX, inputs=ltx_inputs, call=ltx_call),
    "cogvideox": dict(build=CogVideoXTransformer3DModel, small=COGVIDEOX, inputs=cogvideox_inputs),
    "lumina2": dict(build=build_lumina2, small=LUMINA2, inputs=lumina2_inputs, call=lumina2_call),
    "stableaudio": dict(build=StableAudioDiTModel, small=STABLE_AUDIO, inputs=stable_audio_inputs, call=stable_audio_call),
    "auraflow": dict(build=AuraFlowTransformer2DModel, small=AURAFLOW, inputs=auraflow_inputs),
    "qwenimage": dict(
        build=build_qwen_image, small=QWEN_IMAGE, inputs=qwen_image_inputs, call=qwen_image_call, real=QWEN_IMAGE_REAL
    ),
    "flux2": dict(build=Flux2Transformer2DModel, small=FLUX2, inputs=flux2_inputs, real=FLUX2_REAL),
    "chroma": dict(build=ChromaTransformer2DModel, small=CHROMA, inputs=chroma_inputs),
    "sana": dict(build=SanaTransformer2DModel, small=SANA, inputs=sana_inputs),
    "cascade": dict(build=StableCascadeUNet, small=CASCADE, inputs=cascade_inputs),
    "consistency": dict(build=UNet2DModel, small=CONSISTENCY, inputs=consistency_inputs),
}
