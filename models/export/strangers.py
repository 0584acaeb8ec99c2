"""Denoisers that the project's code and fixtures name nowhere, in small: what a stranger would bring.

    python models/export/strangers.py DIR [name ...]

writes `DIR/<name>-ts17/model.onnx` and `DIR/<name>-dynamo18/model.onnx` with random weights, and says what an exporter refuses.
`tandem verify DIR/<name>-ts17/model.onnx --tensor-parallel-size 2` is then run on each; docs/families-more.md has the table.
"""

import sys
import traceback
import warnings
from pathlib import Path

import diffusers
import torch

import export_families
from families import FAMILIES, Family
from more_families import film, picture, text, times
from torchscript import allow_rms_norm

HEADS = dict(num_attention_heads=6, attention_head_dim=16)


def build(name):
    return lambda **config: getattr(diffusers, name)(**config)


def ones(sizes):
    return torch.ones(sizes.batch, sizes.tokens)


def grid(height, width):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).float()


def packed(config, sizes, side=6):
    return torch.randn(sizes.batch, side * side, config["in_channels"])


def flux_like(config, sizes, width="joint_attention_dim"):
    return {
        "hidden_states": packed(config, sizes),
        "encoder_hidden_states": text(config, sizes, width),
        "timestep": times(sizes, 0.6),
        "img_ids": grid(6, 6),
        "txt_ids": torch.zeros(sizes.tokens, 3),
    }


def cogview_inputs(config, sizes):
    size = torch.full((sizes.batch, 2), 16.0)
    return {
        "hidden_states": picture(config, sizes),
        "encoder_hidden_states": text(config, sizes, "text_embed_dim"),
        "timestep": times(sizes),
        "original_size": size,
        "target_size": size,
        "crop_coords": torch.zeros(sizes.batch, 2),
    }


def angles(tokens, size):
    turned = torch.outer(torch.arange(tokens).float(), 0.3 ** torch.arange(size // 2).float()).repeat_interleave(2, -1)
    return turned.cos(), turned.sin()


COGVIEW = HEADS | dict(
    in_channels=4, out_channels=4, num_layers=2, text_embed_dim=64, time_embed_dim=48, condition_dim=32, pos_embed_max_size=16,
    sample_size=16,
)
FLUX_LIKE = HEADS | dict(in_channels=16, num_layers=2, num_single_layers=2, joint_attention_dim=64, axes_dims_rope=(4, 6, 6))

STRANGERS = {
    "mochi": Family(
        build("MochiTransformer3DModel"),
        HEADS | dict(num_layers=2, pooled_projection_dim=48, in_channels=4, text_embed_dim=64, time_embed_dim=32),
        lambda config, sizes: {
            "hidden_states": film(config, sizes, 2),
            "encoder_hidden_states": text(config, sizes, "text_embed_dim"),
            "timestep": times(sizes),
            "encoder_attention_mask": ones(sizes).bool(),
        },
    ),
    "latte": Family(
        build("LatteTransformer3DModel"),
        HEADS | dict(
            in_channels=4, out_channels=8, num_layers=2, cross_attention_dim=96, attention_bias=True, sample_size=8, patch_size=2,
            activation_fn="gelu-approximate", num_embeds_ada_norm=1000, norm_type="ada_norm_single",
            norm_elementwise_affine=False, caption_channels=64, video_length=3,
        ),
        lambda config, sizes: {
            "hidden_states": film(config, sizes),
            "timestep": times(sizes),
            "encoder_hidden_states": text(config, sizes, "caption_channels"),
        },
    ),
    "hunyuandit": Family(
        build("HunyuanDiT2DModel"),
        HEADS | dict(
            in_channels=4, patch_size=2, sample_size=16, hidden_size=96, num_layers=4, cross_attention_dim=64,
            cross_attention_dim_t5=48, pooled_projection_dim=32, text_len=10, text_len_t5=12, use_style_cond_and_image_meta_size=False,
        ),
        lambda config, sizes: {
            "hidden_states": picture(config, sizes),
            "timestep": times(sizes),
            "encoder_hidden_states": torch.randn(sizes.batch, 10, 64),
            "text_embedding_mask": torch.ones(sizes.batch, 10),
            "encoder_hidden_states_t5": torch.randn(sizes.batch, 12, 48),
            "text_embedding_mask_t5": torch.ones(sizes.batch, 12),
        },
        call=lambda model, **inputs: model(**inputs, image_rotary_emb=angles(64, 16), return_dict=False)[0],
    ),
    "allegro": Family(
        build("AllegroTransformer3DModel"),
        HEADS | dict(
            num_layers=2, in_channels=4, out_channels=4, cross_attention_dim=96, sample_height=8, sample_width=8, sample_frames=3,
            caption_channels=64, attention_bias=True,
        ),
        lambda config, sizes: {
            "hidden_states": film(config, sizes),
            "encoder_hidden_states": text(config, sizes, "caption_channels"),
            "timestep": times(sizes),
        },
    ),
    "cosmos": Family(
        build("CosmosTransformer3DModel"),
        HEADS | dict(
            in_channels=4, out_channels=4, num_layers=2, text_embed_dim=64, adaln_lora_dim=16, max_size=(4, 16, 16),
            concat_padding_mask=False, extra_pos_embed_type=None,
        ),
        lambda config, sizes: {
            "hidden_states": film(config, sizes),
            "timestep": times(sizes, 0.6),
            "encoder_hidden_states": text(config, sizes, "text_embed_dim"),
        },
    ),
    "cogview3": Family(build("CogView3PlusTransformer2DModel"), COGVIEW, cogview_inputs),
    "cogview4": Family(build("CogView4Transformer2DModel"), COGVIEW | dict(rope_axes_dim=(16, 16)), cogview_inputs),
    "bria": Family(
        build("BriaTransformer2DModel"), FLUX_LIKE | dict(pooled_projection_dim=None),
        lambda config, sizes: flux_like(config, sizes) | {"timestep": times(sizes)},
    ),
    "ovis": Family(build("OvisImageTransformer2DModel"), FLUX_LIKE | dict(out_channels=16), flux_like),
    "longcat": Family(build("LongCatImageTransformer2DModel"), FLUX_LIKE | dict(pooled_projection_dim=48), flux_like),
    "prx": Family(
        build("PRXTransformer2DModel"),
        dict(in_channels=4, patch_size=2, context_in_dim=64, hidden_size=96, num_heads=6, depth=3, axes_dim=[8, 8]),
        lambda config, sizes: {
            "hidden_states": picture(config, sizes),
            "timestep": times(sizes, 0.6),
            "encoder_hidden_states": text(config, sizes, "context_in_dim"),
        },
    ),
    "kandinsky5": Family(
        build("Kandinsky5Transformer3DModel"),
        dict(
            in_visual_dim=4, in_text_dim=64, in_text_dim2=48, time_dim=32, out_visual_dim=4, model_dim=96, ff_dim=192,
            num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 6, 6),
        ),
        lambda config, sizes: {
            "hidden_states": torch.randn(sizes.batch, 2, 8, 8, 4),
            "encoder_hidden_states": text(config, sizes, "in_text_dim"),
            "timestep": times(sizes),
            "pooled_projections": torch.randn(sizes.batch, 48),
        },
        call=lambda model, **inputs: model(
            **inputs, visual_rope_pos=(torch.arange(2), torch.arange(4), torch.arange(4)), text_rope_pos=torch.arange(10),
            return_dict=False,
        )[0],
    ),
    "krea2": Family(
        build("Krea2Transformer2DModel"),
        HEADS | dict(
            in_channels=16, num_layers=2, num_key_value_heads=2, intermediate_size=192, timestep_embed_dim=32, text_hidden_dim=64,
            num_text_layers=3, text_num_attention_heads=4, text_num_key_value_heads=4, text_intermediate_size=96,
            num_layerwise_text_blocks=1, num_refiner_text_blocks=1, axes_dims_rope=(4, 6, 6),
        ),
        lambda config, sizes: {
            "hidden_states": packed(config, sizes),
            "encoder_hidden_states": torch.randn(sizes.batch, sizes.tokens, 3, 64),
            "timestep": times(sizes, 0.6),
            "position_ids": torch.cat([torch.zeros(sizes.tokens, 3), grid(6, 6)]),
        },
    ),
    "acestep": Family(
        build("AceStepTransformer1DModel"),
        dict(
            hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=3, head_dim=16,
            in_channels=24, audio_acoustic_hidden_dim=8, patch_size=2, sliding_window=8,
        ),
        lambda config, sizes: {
            "hidden_states": torch.randn(sizes.batch, 24, 8),
            "timestep": times(sizes, 0.6),
            "timestep_r": times(sizes, 0.5),
            "encoder_hidden_states": torch.randn(sizes.batch, sizes.tokens, 96),
            "context_latents": torch.randn(sizes.batch, 24, 16),
        },
    ),
    "prior": Family(
        build("PriorTransformer"),
        HEADS | dict(num_layers=2, embedding_dim=48, num_embeddings=10, additional_embeddings=4),
        lambda config, sizes: {
            "hidden_states": torch.randn(sizes.batch, 48),
            "timestep": times(sizes),
            "proj_embedding": torch.randn(sizes.batch, 48),
            "encoder_hidden_states": torch.randn(sizes.batch, 10, 48),
        },
    ),
    "unet3d": Family(
        build("UNet3DConditionModel"),
        dict(
            sample_size=8, block_out_channels=(48, 96), layers_per_block=1, norm_num_groups=12, cross_attention_dim=64,
            attention_head_dim=16, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        ),
        lambda config, sizes: {
            "sample": torch.randn(sizes.batch, 4, 3, 8, 8),
            "timestep": times(sizes),
            "encoder_hidden_states": text(config, sizes, "cross_attention_dim"),
        },
    ),
    "svd": Family(
        build("UNetSpatioTemporalConditionModel"),
        dict(
            sample_size=8, in_channels=8, out_channels=4, block_out_channels=(96, 192), layers_per_block=1, cross_attention_dim=64,
            num_attention_heads=(6, 6), addition_time_embed_dim=32, projection_class_embeddings_input_dim=96, num_frames=3,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        ),
        lambda config, sizes: {
            "sample": torch.randn(sizes.batch, 3, 8, 8, 8),
            "timestep": times(sizes),
            "encoder_hidden_states": torch.randn(sizes.batch, 1, 64),
            "added_time_ids": torch.ones(sizes.batch, 3),
        },
    ),
    "easyanimate": Family(
        build("EasyAnimateTransformer3DModel"),
        HEADS | dict(
            in_channels=4, out_channels=4, patch_size=2, sample_width=8, sample_height=8, num_layers=2, mmdit_layers=2,
            time_embed_dim=48, text_embed_dim=64, add_noise_in_inpaint_model=False,
        ),
        lambda config, sizes: {
            "hidden_states": film(config, sizes, 2),
            "timestep": times(sizes),
            "encoder_hidden_states": text(config, sizes, "text_embed_dim"),
        },
    ),
    "sanavideo": Family(
        build("SanaVideoTransformer3DModel"),
        HEADS | dict(
            in_channels=4, out_channels=4, num_layers=2, num_cross_attention_heads=6, cross_attention_head_dim=16,
            cross_attention_dim=96, caption_channels=64, sample_size=8, rope_max_seq_len=32,
        ),
        lambda config, sizes: {
            "hidden_states": film(config, sizes, 2),
            "encoder_hidden_states": text(config, sizes, "caption_channels"),
            "timestep": times(sizes),
        },
    ),
}


def write(name, opset, dynamo, folder):
    export = export_families.Export(name, opset, dynamo)
    denoiser, inputs = export_families.make_denoiser(export, export_families.build_small(export))
    path = Path(folder, export.name, "model.onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    export_families.export_onnx(export, denoiser, inputs, str(path))
    print(f"{export.name}: {path.stat().st_size} bytes", flush=True)


@torch.no_grad()
def main():
    folder, *names = sys.argv[1:]
    warnings.filterwarnings("ignore")
    allow_rms_norm()
    FAMILIES.update(STRANGERS)
    for name in names or STRANGERS:
        for opset, dynamo in ((17, False), (18, True)):
            try:
                write(name, opset, dynamo, folder)
            except Exception as error:  # an exporter's refusal is a row of the table
                print(f"{name}-{'dynamo' if dynamo else 'ts'}{opset} FAILED: {type(error).__name__}: {str(error).strip()[:300]}", flush=True)
                traceback.print_exc(limit=-3)


if __name__ == "__main__":
    main()
