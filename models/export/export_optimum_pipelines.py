"""Writes `test/fixtures/optimum/`: whole pipelines as Optimum's own exporter writes them, each with the scheduler that the published
model ships with, and what diffusers' own pipeline paints with the same weights.

    HF_HUB_OFFLINE=1 python models/export/export_optimum_pipelines.py [model ...]

In the environment of requirements-optimum.txt. Weights are random and small in number, but CLIP's vocabulary has its real 49,408
entries (`clip_vocabulary.py`). Parts that models have in common are stored once, by the digest of their bytes; CLIP's merges too.
"""

import gzip
import hashlib
import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from optimum.exporters.onnx import main_export
from PIL import Image
from transformers import CLIPTokenizer

import clip_vocabulary
from skeleton import strip_metadata
from tiny_pipelines import FLUX_LATENTS, SD3_LATENTS, SDXL_LATENTS, flow_schedule, make_vae, output_layer, shake
from tiny_text import clip_encoder, t5_encoder, t5_tokenizer
from tiny_tokenizer import write_json

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "optimum"
SEED = 7
WEIGHTS_SEED = 20261
WIDTH, T5_WIDTH = 32, 80
# Rows of an embedding that differ; further ones repeat, so that 49,408 of them compress.
ROWS = 199
# Values that a large tensor has on each side of 0, for the same reason.
LEVELS = 15
STORED = ("text_encoder", "text_encoder_2", "text_encoder_3", "unet", "transformer", "vae_decoder")

SD_LATENTS = dict(scaling_factor=0.18215)
SCALED_LINEAR = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
UNET = dict(
    sample_size=8, block_out_channels=(16, 32), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), layers_per_block=1, norm_num_groups=8, attention_head_dim=(2, 4),
)  # fmt: skip
FLUX = dict(
    in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=4, joint_attention_dim=T5_WIDTH,
    pooled_projection_dim=WIDTH, axes_dims_rope=(2, 2, 4),
)  # fmt: skip


def repeat_rows(embedding):
    """The last two rows stay: they begin and end a prompt."""
    count = embedding.shape[0] - 2
    embedding[:count] = embedding[:ROWS].repeat(-(-count // ROWS), 1)[:count]


@torch.no_grad()
def seeded(make, *args, **options):
    """Parts that are made alike have the same weights in every model."""
    torch.manual_seed(WEIGHTS_SEED)
    return make(*args, **options).eval()


def clip(folder, name="", projected=False, pad_token=clip_vocabulary.END):
    clip_vocabulary.write_clip(folder / f"tokenizer{name}", pad_token)
    tokenizer = CLIPTokenizer.from_pretrained(folder / f"tokenizer{name}", pad_token=pad_token)
    encoder = seeded(clip_encoder, tokenizer, WIDTH, projected)
    repeat_rows(encoder.text_model.embeddings.token_embedding.weight.data)
    return {f"tokenizer{name}": tokenizer, f"text_encoder{name}": encoder}


def t5(name):
    return {f"tokenizer{name}": t5_tokenizer(), f"text_encoder{name}": seeded(t5_encoder, T5_WIDTH)}


def vae(latents):
    return make_vae(torch.Generator().manual_seed(WEIGHTS_SEED), **latents)


@torch.no_grad()
def denoiser(make, **config):
    model = seeded(make, **config)
    shake(model)
    for parameter in output_layer(model).parameters():
        parameter.mul_(3)
    return model


def stable_diffusion(folder, scheduler, pipeline=StableDiffusionPipeline, **config):
    unet = denoiser(UNet2DConditionModel, **UNET, cross_attention_dim=WIDTH, **config)
    return pipeline(
        **clip(folder), unet=unet, vae=seeded(vae, SD_LATENTS), scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_xl(folder, scheduler):
    unet = denoiser(
        UNet2DConditionModel, **UNET, cross_attention_dim=2 * WIDTH, transformer_layers_per_block=(1, 1), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=8 * 6 + WIDTH,
    )  # fmt: skip
    texts = clip(folder) | clip(folder, "_2", projected=True, pad_token="!")
    return StableDiffusionXLPipeline(**texts, unet=unet, vae=seeded(vae, SDXL_LATENTS), scheduler=scheduler, add_watermarker=False)


def stable_diffusion_3(folder):
    transformer = denoiser(
        SD3Transformer2DModel, sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=T5_WIDTH, caption_projection_dim=32, pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16, qk_norm="rms_norm",
    )  # fmt: skip
    texts = clip(folder, projected=True) | clip(folder, "_2", projected=True, pad_token="!") | t5("_3")
    schedule = flow_schedule(shift=3.0)
    return StableDiffusion3Pipeline(**texts, transformer=transformer, vae=seeded(vae, SD3_LATENTS), scheduler=schedule)


def flux(folder, guided, **schedule):
    transformer = denoiser(FluxTransformer2DModel, **FLUX, guidance_embeds=guided)
    return FluxPipeline(
        **clip(folder), **t5("_2"), transformer=transformer, vae=seeded(vae, FLUX_LATENTS), scheduler=flow_schedule(**schedule)
    )


# The scheduler of each is the one that the published model ships with, by its scheduler_config.json.
BUILDERS = {
    "sd15": lambda folder: stable_diffusion(
        folder,
        PNDMScheduler(**SCALED_LINEAR, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1),
    ),
    "sd2": lambda folder: stable_diffusion(
        folder,
        DDIMScheduler(**SCALED_LINEAR, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction"),
        use_linear_projection=True,
    ),
    "lcm": lambda folder: stable_diffusion(
        folder,
        LCMScheduler(**SCALED_LINEAR, clip_sample=False, set_alpha_to_one=True, steps_offset=1, original_inference_steps=50),
        pipeline=LatentConsistencyModelPipeline,
        time_cond_proj_dim=32,
    ),
    "sdxl": lambda folder: stable_diffusion_xl(
        folder, EulerDiscreteScheduler(**SCALED_LINEAR, steps_offset=1, timestep_spacing="leading")
    ),
    "sdxl-turbo": lambda folder: stable_diffusion_xl(
        folder, EulerAncestralDiscreteScheduler(**SCALED_LINEAR, steps_offset=1, timestep_spacing="trailing")
    ),
    "sd3": stable_diffusion_3,
    "flux-dev": lambda folder: flux(
        folder, True, shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    ),
    "flux-schnell": lambda folder: flux(folder, False, shift=1.0),
}

SHORT, NEGATIVE = "a red cat on the beach, oil painting", "blurry, low quality"
LONG = ", ".join(
    f"a {colour} {thing} on the moon, sharp focus"
    for colour, thing in (("blue", "robot"), ("golden", "dragon"), ("white", "castle"), ("pink", "teapot"), ("green", "forest"))
)
SMALL, WIDE = dict(width=64, height=64), dict(width=96, height=64)
# What each is asked, by the picture's name; `wide` has another size and a prompt of more than CLIP's 77 tokens.
GOLDENS = {
    "sd15": {
        "guided": dict(prompt=SHORT, negative_prompt=NEGATIVE, guidance_scale=7.5, num_inference_steps=6, **SMALL),
        "wide": dict(prompt=f"{LONG}, {LONG}", guidance_scale=4.0, num_inference_steps=4, **WIDE),
    },
    "sd2": {
        "guided": dict(prompt=SHORT, negative_prompt=NEGATIVE, guidance_scale=7.5, num_inference_steps=6, **SMALL),
        "wide": dict(prompt=LONG, guidance_scale=4.0, num_inference_steps=4, **WIDE),
    },
    "lcm": {
        "four-steps": dict(prompt=SHORT, guidance_scale=8.5, num_inference_steps=4, **SMALL),
        "wide": dict(prompt=LONG, guidance_scale=3.0, num_inference_steps=2, **WIDE),
    },
    "sdxl": {
        "guided": dict(prompt=SHORT, negative_prompt=NEGATIVE, guidance_scale=5.0, num_inference_steps=5, **SMALL),
        "wide": dict(prompt=LONG, guidance_scale=5.0, num_inference_steps=3, **WIDE),
    },
    "sdxl-turbo": {
        "one-step": dict(prompt=SHORT, guidance_scale=0.0, num_inference_steps=1, **SMALL),
        "wide": dict(prompt=LONG, guidance_scale=0.0, num_inference_steps=4, **WIDE),
    },
    "sd3": {
        "guided": dict(prompt=SHORT, negative_prompt=NEGATIVE, guidance_scale=7.0, num_inference_steps=5, **SMALL),
        "wide": dict(prompt=f"{LONG}, {LONG}", guidance_scale=4.5, num_inference_steps=3, **WIDE),
    },
    "flux-dev": {
        "guided": dict(prompt=SHORT, guidance_scale=3.5, num_inference_steps=5, **SMALL),
        "wide": dict(prompt=f"{LONG}, {LONG}", guidance_scale=2.0, num_inference_steps=3, **WIDE),
    },
    "flux-schnell": {
        "four-steps": dict(prompt=SHORT, guidance_scale=0.0, num_inference_steps=4, max_sequence_length=512, **SMALL),
        "wide": dict(prompt=LONG, guidance_scale=0.0, num_inference_steps=2, max_sequence_length=512, **WIDE),
    },
}


@torch.no_grad()
def coarsen(module):
    """Rounds every large tensor to evenly spaced values."""
    for parameter in module.parameters():
        if parameter.numel() >= 64 and parameter.abs().max() > 0:
            step = parameter.abs().max() / LEVELS
            parameter.copy_((parameter / step).round() * step)


def build(name, folder):
    torch.set_num_threads(1)
    pipeline = BUILDERS[name](folder)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
            coarsen(part)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def store_part(path):
    """Keeps an ONNX file once, by its content. Returns its name in `parts/`."""
    import onnx

    model = onnx.load(path)
    strip_metadata(model)
    data = model.SerializeToString(deterministic=True)
    name = f"{path.parent.name.rstrip('_23')}-{hashlib.sha256(data).hexdigest()[:12]}"
    target = FIXTURES / "parts" / f"{name}.onnx.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.write_bytes(gzip.compress(data, 9, mtime=0))
    return name


def store_merges(path):
    target = FIXTURES / "merges.txt.gz"
    target.write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))


def keep_tokenizer(folder, target):
    """Without what `merges.txt` says as well."""
    for file in folder.iterdir():
        if file.name == "merges.txt":
            store_merges(file)
        elif not (file.name == "vocab.json" or (file.name == "tokenizer.json" and (folder / "vocab.json").exists())):
            (target / file.name).write_bytes(file.read_bytes())


def keep(exported, target):
    """What Optimum wrote, but for the VAE's encoder."""
    parts = {}
    for folder in sorted(path for path in exported.iterdir() if path.is_dir()):
        kept = target / folder.name
        if folder.name.startswith("tokenizer"):
            kept.mkdir()
            keep_tokenizer(folder, kept)
        elif folder.name in STORED:
            kept.mkdir()
            parts[folder.name] = store_part(folder / "model.onnx")
            shutil.copy(folder / "config.json", kept)
        elif folder.name == "scheduler":
            shutil.copytree(folder, kept)
    shutil.copy(exported / "model_index.json", target)
    return parts


def paint(pipeline, asked):
    return np.asarray(pipeline(**asked, generator=torch.Generator().manual_seed(SEED)).images[0])


def make_goldens(pipeline, name, target):
    for golden, asked in GOLDENS[name].items():
        picture = paint(pipeline, asked)
        other = paint(pipeline, asked | {"prompt": "a blue robot in the snow"})
        difference = np.abs(picture.astype(float) - other).mean()
        print(f"  {golden}: spread {picture.std():.1f}, another prompt differs by {difference:.1f}", flush=True)
        Image.fromarray(picture).save(target / f"{golden}.png", optimize=True)


@torch.no_grad()
def make(name):
    print(name, flush=True)
    target = FIXTURES / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        pipeline = build(name, Path(scratch, "tokenizers"))
        pipeline.save_pretrained(Path(scratch, "model"))
        exported = Path(scratch, "onnx")
        main_export(str(Path(scratch, "model")), exported, task="text-to-image", do_validation=False)
        parts = keep(exported, target)
        make_goldens(pipeline, name, target)
    pictures = {golden: {key: value for key, value in asked.items() if key != "max_sequence_length"} for golden, asked in GOLDENS[name].items()}
    write_json(target / "goldens.json", {"seed": SEED, "parts": parts, "pictures": pictures})


def drop_unused():
    used = {f"{part}.onnx.gz" for file in FIXTURES.glob("*/goldens.json") for part in json.loads(file.read_text())["parts"].values()}
    for file in (FIXTURES / "parts").iterdir():
        if file.name not in used:
            file.unlink()
    total = sum(file.stat().st_size for file in FIXTURES.rglob("*") if file.is_file())
    print(f"{total} bytes in all", flush=True)


def main():
    warnings.filterwarnings("ignore")
    for name in sys.argv[1:] or BUILDERS:
        make(name)
    drop_unused()


if __name__ == "__main__":
    main()
