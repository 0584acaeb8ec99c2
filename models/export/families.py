"""The networks of each model family as diffusers and transformers build them: configurations, example inputs and ONNX-facing modules.

Each family has a small configuration, with the same structure as the real one and 6 heads, which 4 ranks cannot share
evenly, and a real one, whose figures are those of the published model's config.json. (SDXL's real one is among the UNets
of export_unets.py.)
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import (
    AutoencoderKL,
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    ZImageTransformer2DModel,
)

from more_families import MORE
from text_encoders import build_clip, build_qwen3, build_t5, encode, text_inputs
from z_image import make_exportable


@dataclass(frozen=True)
class Sizes:
    """Of the example inputs; `latent` is height and width."""

    batch: int
    latent: int
    tokens: int


@dataclass(frozen=True)
class Family:
    """`build(**config)` is diffusers' model, `inputs(config, sizes)` its example inputs by name, and `call` how it takes them."""

    build: Callable
    small: dict
    inputs: Callable
    real: dict | None = None
    call: Callable = lambda model, **inputs: model(**inputs, return_dict=False)[0]
    small_sizes: Sizes = Sizes(2, 16, 10)
    real_sizes: Sizes = Sizes(1, 128, 77)


class Denoiser(torch.nn.Module):
    """A model that takes its inputs by position and gives one tensor, as the exporters want it."""

    def __init__(self, model, family, names):
        super().__init__()
        self.model, self.family_call, self.names = model, family.call, names

    def forward(self, *inputs):
        return self.family_call(self.model, **dict(zip(self.names, inputs)))


def latents(config, sizes):
    return torch.randn(sizes.batch, config["in_channels"], sizes.latent, sizes.latent)


def timesteps(sizes, value=601.0):
    return torch.full((sizes.batch,), value)


# Stable Diffusion XL ------------------------------------------------------------------------------------------------

SDXL_BLOCKS = dict(
    in_channels=4,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    use_linear_projection=True,
    addition_embed_type="text_time",
)
SDXL_SMALL = SDXL_BLOCKS | dict(
    sample_size=16,
    block_out_channels=(48, 96, 144),
    layers_per_block=1,
    transformer_layers_per_block=(1, 1, 2),
    attention_head_dim=(3, 6, 9),
    cross_attention_dim=96,
    norm_num_groups=12,
    addition_time_embed_dim=32,
    projection_class_embeddings_input_dim=32 * 6 + 48,
)


def sdxl_inputs(config, sizes):
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    return {
        "sample": latents(config, sizes),
        "timestep": torch.tensor(601.0),
        "encoder_hidden_states": torch.randn(sizes.batch, sizes.tokens, config["cross_attention_dim"]),
        "text_embeds": torch.randn(sizes.batch, pooled),
        "time_ids": torch.tensor([[1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]] * sizes.batch),
    }


def sdxl_call(model, sample, timestep, encoder_hidden_states, text_embeds, time_ids):
    added = {"text_embeds": text_embeds, "time_ids": time_ids}
    return model(sample, timestep, encoder_hidden_states, added_cond_kwargs=added, return_dict=False)[0]


# Stable Diffusion 3 and 3.5 -----------------------------------------------------------------------------------------

SD3_SMALL = dict(
    sample_size=16,
    in_channels=4,
    out_channels=4,
    num_layers=3,
    attention_head_dim=16,
    num_attention_heads=6,
    joint_attention_dim=64,
    caption_projection_dim=96,
    pooled_projection_dim=48,
    pos_embed_max_size=16,
)
SD35_SMALL = SD3_SMALL | dict(qk_norm="rms_norm", dual_attention_layers=(0, 1))
# stabilityai/stable-diffusion-3.5-medium, transformer/config.json
SD35_REAL = dict(
    sample_size=128,
    in_channels=16,
    out_channels=16,
    num_layers=24,
    attention_head_dim=64,
    num_attention_heads=24,
    joint_attention_dim=4096,
    caption_projection_dim=1536,
    pooled_projection_dim=2048,
    pos_embed_max_size=384,
    qk_norm="rms_norm",
    dual_attention_layers=tuple(range(13)),
)


def sd3_inputs(config, sizes):
    return {
        "hidden_states": latents(config, sizes),
        "encoder_hidden_states": torch.randn(sizes.batch, sizes.tokens, config["joint_attention_dim"]),
        "pooled_projections": torch.randn(sizes.batch, config["pooled_projection_dim"]),
        "timestep": timesteps(sizes),
    }


# FLUX.1 -------------------------------------------------------------------------------------------------------------

FLUX_SMALL = dict(
    in_channels=16,
    num_layers=2,
    num_single_layers=2,
    attention_head_dim=16,
    num_attention_heads=6,
    joint_attention_dim=64,
    pooled_projection_dim=48,
    axes_dims_rope=(4, 6, 6),
    guidance_embeds=True,
)
# black-forest-labs/FLUX.1-dev, transformer/config.json
FLUX_REAL = dict(
    in_channels=64,
    num_layers=19,
    num_single_layers=38,
    attention_head_dim=128,
    num_attention_heads=24,
    joint_attention_dim=4096,
    pooled_projection_dim=768,
    axes_dims_rope=(16, 56, 56),
    guidance_embeds=True,
)


def flux_inputs(config, sizes):
    side = sizes.latent // 2
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return {
        "hidden_states": torch.randn(sizes.batch, side * side, config["in_channels"]),
        "encoder_hidden_states": torch.randn(sizes.batch, sizes.tokens, config["joint_attention_dim"]),
        "pooled_projections": torch.randn(sizes.batch, config["pooled_projection_dim"]),
        "timestep": timesteps(sizes, 0.6),
        "img_ids": torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3).float(),
        "txt_ids": torch.zeros(sizes.tokens, 3),
        "guidance": timesteps(sizes, 3.5),
    }


# PixArt and DiT -----------------------------------------------------------------------------------------------------

PIXART_SMALL = dict(
    num_attention_heads=6,
    attention_head_dim=16,
    in_channels=4,
    out_channels=8,
    num_layers=3,
    cross_attention_dim=96,
    sample_size=16,
    caption_channels=64,
    norm_type="ada_norm_single",
    use_additional_conditions=False,
)
# PixArt-alpha/PixArt-Sigma-XL-2-1024-MS, transformer/config.json
PIXART_REAL = PIXART_SMALL | dict(
    num_attention_heads=16,
    attention_head_dim=72,
    num_layers=28,
    cross_attention_dim=1152,
    sample_size=128,
    caption_channels=4096,
    interpolation_scale=2,
)


def pixart_inputs(config, sizes):
    return {
        "hidden_states": latents(config, sizes),
        "encoder_hidden_states": torch.randn(sizes.batch, sizes.tokens, config["caption_channels"]),
        "timestep": timesteps(sizes),
    }


DIT_SMALL = dict(
    num_attention_heads=6, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3, sample_size=16,
    num_embeds_ada_norm=1000,
)


def dit_inputs(config, sizes):
    return {
        "hidden_states": latents(config, sizes),
        "timestep": timesteps(sizes).long(),
        "class_labels": torch.arange(sizes.batch) + 3,
    }


# Z-Image ------------------------------------------------------------------------------------------------------------

ZIMAGE_SMALL = dict(
    in_channels=4, dim=96, n_layers=2, n_refiner_layers=1, n_heads=6, n_kv_heads=6, cap_feat_dim=64, axes_dims=[4, 6, 6],
    axes_lens=[128, 64, 64],
)
# Tongyi-MAI/Z-Image-Turbo, transformer/config.json; diffusers' defaults are the same.
ZIMAGE_REAL = dict(
    in_channels=16, dim=3840, n_layers=30, n_refiner_layers=2, n_heads=30, n_kv_heads=30, cap_feat_dim=2560,
    axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512],
)


def build_zimage(**config):
    return make_exportable(ZImageTransformer2DModel(**config))


def zimage_inputs(config, sizes):
    return {
        "hidden_states": latents(config, sizes),
        "timestep": timesteps(sizes, 0.4),
        "encoder_hidden_states": torch.randn(sizes.batch, sizes.tokens, config["cap_feat_dim"]),
    }


def zimage_call(model, hidden_states, timestep, encoder_hidden_states):
    """Z-Image takes lists of pictures with a frame axis, one per prompt."""
    pictures = list(hidden_states.unsqueeze(2).unbind(0))
    return torch.stack(model(pictures, timestep, list(encoder_hidden_states.unbind(0)), return_dict=False)[0]).squeeze(2)


# VAE decoder --------------------------------------------------------------------------------------------------------

VAE_SMALL = dict(
    block_out_channels=(32, 64, 64),
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    layers_per_block=1,
    norm_num_groups=8,
)


FAMILIES = {
    "sdxl": Family(UNet2DConditionModel, SDXL_SMALL, sdxl_inputs, call=sdxl_call),
    "sd3": Family(SD3Transformer2DModel, SD3_SMALL, sd3_inputs),
    "sd35": Family(SD3Transformer2DModel, SD35_SMALL, sd3_inputs, SD35_REAL, real_sizes=Sizes(1, 128, 333)),
    "flux": Family(FluxTransformer2DModel, FLUX_SMALL, flux_inputs, FLUX_REAL, real_sizes=Sizes(1, 128, 512)),
    "pixart": Family(PixArtTransformer2DModel, PIXART_SMALL, pixart_inputs, PIXART_REAL, real_sizes=Sizes(1, 128, 300)),
    "zimage": Family(build_zimage, ZIMAGE_SMALL, zimage_inputs, ZIMAGE_REAL, zimage_call, real_sizes=Sizes(1, 128, 100)),
    "dit": Family(DiTTransformer2DModel, DIT_SMALL, dit_inputs),
    "vae": Family(
        AutoencoderKL,
        VAE_SMALL,
        lambda config, sizes: {"latent_sample": torch.randn(1, 4, sizes.latent, sizes.latent)},
        call=lambda model, latent_sample: model.decode(latent_sample, return_dict=False)[0],
    ),
    "clip": Family(build_clip, {}, text_inputs, call=encode),
    "t5": Family(build_t5, {}, text_inputs, call=encode),
    "qwen3": Family(build_qwen3, {}, text_inputs, call=encode),
    **{name: Family(**family) for name, family in MORE.items()},
}
