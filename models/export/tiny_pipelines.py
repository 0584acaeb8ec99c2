"""Builds a tiny pipeline of each family in PyTorch, with seeded random weights: nothing here is trained.

Weights are rounded to 255 values a tensor, so that their files compress; PyTorch and ONNX have the same ones.
"""

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

from tiny_text import clip_encoder, clip_tokenizer, qwen_encoder, qwen_tokenizer, t5_encoder, t5_tokenizer

SEED = 20251
LATENT_CHANNELS = 4
CLIP_WIDTH = 32
T5_WIDTH = 80
QWEN_WIDTH = 40

VAE = dict(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(8, 8, 16, 16),
    layers_per_block=1,
    norm_num_groups=4,
    latent_channels=LATENT_CHANNELS,
    sample_size=64,
)
# Each family's own scale and shift of the latents.
SDXL_LATENTS = dict(scaling_factor=0.13025)
SD3_LATENTS = dict(scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False)
FLUX_LATENTS = dict(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False)


def soft_blobs(count, generator):
    """Latents as of pictures: [count, 4, 32, 32], smooth, of mean 0 and standard deviation 1."""
    coarse = torch.randn(count, LATENT_CHANNELS, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")
    return smooth / smooth.std(dim=(2, 3), keepdim=True)


def raise_contrast(vae, generator, spread):
    """Scales the last convolution so that each colour has mean 0 and this standard deviation in a picture of -1 to 1."""
    pictures = vae.decode(soft_blobs(8, generator) / vae.config.scaling_factor).sample
    scale = spread / pictures.std(dim=(0, 2, 3))
    vae.decoder.conv_out.weight.mul_(scale[:, None, None, None])
    vae.decoder.conv_out.bias.sub_(pictures.mean(dim=(0, 2, 3))).mul_(scale)


def shake(module):
    """Moves what starts as zero or one off it: gates that start closed would hide half of the network."""
    for name, parameter in module.named_parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        elif parameter.abs().max() == 0:
            parameter.normal_(0, parameter.shape[-1] ** -0.5)
        elif "norm" in name and "linear" in name:
            parameter.normal_(0, 0.5 * parameter.shape[-1] ** -0.5)


def coarsen(module):
    """Rounds every large tensor to 255 evenly spaced values."""
    for parameter in module.parameters():
        if parameter.numel() >= 64 and parameter.abs().max() > 0:
            step = parameter.abs().max() / 127
            parameter.copy_((parameter / step).round() * step)


def make_vae(generator, **latents):
    vae = AutoencoderKL(**VAE, **latents).eval()
    shake(vae)
    raise_contrast(vae, generator, spread=0.3)
    return vae


def flow_schedule(**options):
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, **options)


def build_sdxl(folder, generator):
    tokenizers = (clip_tokenizer(folder / "tokenizer"), clip_tokenizer(folder / "tokenizer_2", pad_token="!"))
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        transformer_layers_per_block=(1, 1),
        attention_head_dim=(2, 4),
        cross_attention_dim=2 * CLIP_WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 * 6 + CLIP_WIDTH,
    )
    return StableDiffusionXLPipeline(
        vae=make_vae(generator, **SDXL_LATENTS),
        text_encoder=clip_encoder(tokenizers[0], CLIP_WIDTH, projected=False),
        text_encoder_2=clip_encoder(tokenizers[1], CLIP_WIDTH, projected=True),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
        ),
        add_watermarker=False,
    )


def build_sd3(folder, generator):
    tokenizers = (clip_tokenizer(folder / "tokenizer"), clip_tokenizer(folder / "tokenizer_2", pad_token="!"))
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * CLIP_WIDTH,
        pos_embed_max_size=16,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        vae=make_vae(generator, **SD3_LATENTS),
        text_encoder=clip_encoder(tokenizers[0], CLIP_WIDTH, projected=True),
        text_encoder_2=clip_encoder(tokenizers[1], CLIP_WIDTH, projected=True),
        text_encoder_3=t5_encoder(T5_WIDTH),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        tokenizer_3=t5_tokenizer(),
        transformer=transformer,
        scheduler=flow_schedule(shift=3.0),
    )


def build_flux(folder, generator):
    tokenizer = clip_tokenizer(folder / "tokenizer")
    transformer = FluxTransformer2DModel(
        in_channels=4 * LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(2, 2, 4),
    )
    return FluxPipeline(
        vae=make_vae(generator, **FLUX_LATENTS),
        text_encoder=clip_encoder(tokenizer, CLIP_WIDTH, projected=False),
        text_encoder_2=t5_encoder(T5_WIDTH),
        tokenizer=tokenizer,
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
        scheduler=flow_schedule(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
    )


def build_z_image(_, generator):
    transformer = ZImageTransformer2DModel(
        in_channels=LATENT_CHANNELS,
        dim=48,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=4,
        n_kv_heads=4,
        cap_feat_dim=QWEN_WIDTH,
        axes_dims=[4, 4, 4],
        axes_lens=[640, 16, 16],
    )
    return ZImagePipeline(
        vae=make_vae(generator, **FLUX_LATENTS),
        text_encoder=qwen_encoder(QWEN_WIDTH),
        tokenizer=qwen_tokenizer(),
        transformer=transformer,
        scheduler=flow_schedule(shift=3.0),
    )


BUILDERS = {"sdxl": build_sdxl, "sd3": build_sd3, "flux": build_flux, "z-image": build_z_image}


def output_layer(denoiser):
    """The last linear map, whose scale is that of the prediction."""
    for name in ("conv_out", "proj_out"):
        if hasattr(denoiser, name):
            return getattr(denoiser, name)
    return denoiser.all_final_layer["2-1"].linear


@torch.no_grad()
def build_pipeline(family, folder):
    """The tiny pipeline of a family; CLIP's tokenizers are written to the folder. Leaves PyTorch with one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    pipeline = BUILDERS[family](folder, torch.Generator().manual_seed(SEED))
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    shake(denoiser)
    for parameter in output_layer(denoiser).parameters():
        parameter.mul_(3)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
            coarsen(part)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
