"""Exports small pipelines with Optimum's own exporter, as `optimum-cli export onnx` does, and keeps their denoisers and the
text encoder of one as skeletons of `test/fixtures/families/`.

    HF_HUB_OFFLINE=1 python models/export/export_optimum.py [family ...]

Needs an environment of its own (requirements-optimum.txt): Optimum wants older versions of diffusers and transformers than
the other scripts. What Optimum exports has symbolic dims; each skeleton is checked against PyTorch, as those of
`export_families.py` are.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import torch
from diffusers import (
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from optimum.exporters.onnx import main_export

from export_families import FIXTURES, MIN_BYTES, check, perturb
from families import FAMILIES, FLUX_SMALL, SD3_SMALL, SDXL_SMALL, Denoiser, Family, flux_inputs, latents
from skeleton import WEIGHTS_FILE, make_skeleton, write_skeleton
from tiny_pipelines import VAE, AutoencoderKL, EulerDiscreteScheduler, flow_schedule
from tiny_text import clip_encoder, clip_tokenizer, t5_encoder, t5_tokenizer

CLIP_WIDTH = 48
HEADS = 6
PROMPT_TOKENS = 77
SD_SMALL = {key: value for key, value in SDXL_SMALL.items() if "addition" not in key and "projection" not in key} | dict(
    cross_attention_dim=CLIP_WIDTH
)


def sd_inputs(config, sizes):
    return {
        "sample": latents(config, sizes),
        "timestep": torch.tensor(601.0),
        "encoder_hidden_states": torch.randn(sizes.batch, sizes.tokens, config["cross_attention_dim"]),
    }


def whole_positions(config, sizes):
    """FLUX's inputs; Optimum has positions in whole numbers."""
    inputs = flux_inputs(config, sizes)
    return inputs | {name: inputs[name].long() for name in ("img_ids", "txt_ids")}


def make_clip(folder, name, width, projected):
    """A CLIP encoder and its tokenizer, by the names that a pipeline has for them."""
    tokenizer = clip_tokenizer(folder / f"tokenizer{name}")
    return {f"tokenizer{name}": tokenizer, f"text_encoder{name}": clip_encoder(tokenizer, width, projected, HEADS)}


def build_sd(folder):
    parts = make_clip(folder, "", CLIP_WIDTH, projected=False)
    return StableDiffusionPipeline(
        **parts, unet=UNet2DConditionModel(**SD_SMALL), vae=AutoencoderKL(**VAE), scheduler=EulerDiscreteScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def build_sdxl(folder):
    parts = make_clip(folder, "", CLIP_WIDTH, projected=False) | make_clip(folder, "_2", CLIP_WIDTH, projected=True)
    return StableDiffusionXLPipeline(
        **parts, unet=UNet2DConditionModel(**SDXL_SMALL), vae=AutoencoderKL(**VAE), scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )  # fmt: skip


def build_sd3(folder):
    width = SD3_SMALL["pooled_projection_dim"] // 2
    parts = make_clip(folder, "", width, projected=True) | make_clip(folder, "_2", width, projected=True)
    return StableDiffusion3Pipeline(
        **parts, tokenizer_3=t5_tokenizer(), text_encoder_3=t5_encoder(SD3_SMALL["joint_attention_dim"]),
        transformer=SD3Transformer2DModel(**SD3_SMALL), vae=AutoencoderKL(**VAE), scheduler=flow_schedule(),
    )  # fmt: skip


def build_flux(folder):
    parts = make_clip(folder, "", FLUX_SMALL["pooled_projection_dim"], projected=False)
    return FluxPipeline(
        **parts, tokenizer_2=t5_tokenizer(), text_encoder_2=t5_encoder(FLUX_SMALL["joint_attention_dim"]),
        transformer=FluxTransformer2DModel(**FLUX_SMALL), vae=AutoencoderKL(**VAE), scheduler=flow_schedule(),
    )  # fmt: skip


BUILDERS = {"sd": build_sd, "sdxl": build_sdxl, "sd3": build_sd3, "flux": build_flux}


def clip_inputs(_, sizes):
    return {"input_ids": torch.randint(3, 200, (sizes.batch, PROMPT_TOKENS))}


SD = Family(UNet2DConditionModel, SD_SMALL, sd_inputs)
CLIP = Family(None, {}, clip_inputs, call=FAMILIES["clip"].call)
FLUX = Family(FluxTransformer2DModel, FLUX_SMALL, whole_positions)
# The parts that are kept: family, the pipeline's own name for the part, and how it is called.
KEPT = {
    "sd": [("sd", "unet", SD), ("clip", "text_encoder", CLIP)],
    "sdxl": [("sdxl", "unet", FAMILIES["sdxl"])],
    "sd3": [("sd3", "transformer", FAMILIES["sd3"])],
    "flux": [("flux", "transformer", FLUX)],
}


def build(name, folder):
    torch.manual_seed(0)
    pipeline = BUILDERS[name](folder)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
            perturb(part)
    return pipeline


def keep(name, exported, model, family):
    """Writes the skeleton of one exported part and checks it."""
    torch.manual_seed(1)
    inputs = family.inputs(family.small, family.small_sizes)
    with tempfile.TemporaryDirectory() as folder:
        skeleton, weights = make_skeleton(str(exported), weights_file=Path(folder, WEIGHTS_FILE), min_bytes=MIN_BYTES)
        write_skeleton(skeleton, weights, FIXTURES, f"{name}-optimum{skeleton.opset_import[0].version}")
        check(skeleton, folder, Denoiser(model, family, list(inputs)).eval(), inputs, torch.float32)


@torch.no_grad()
def export(name):
    with tempfile.TemporaryDirectory() as folder:
        pipeline = build(name, Path(folder, "tokenizers"))
        pipeline.save_pretrained(Path(folder, "model"))
        onnx_folder = Path(folder, "onnx")
        # Optimum's own tolerance is an absolute one, for widths of real models; `check` has a relative one.
        main_export(str(Path(folder, "model")), onnx_folder, task="text-to-image", do_validation=False)
        for kept, part, family in KEPT[name]:
            keep(kept, onnx_folder / part / "model.onnx", getattr(pipeline, part), family)


def main():
    warnings.filterwarnings("ignore")
    for name in sys.argv[1:] or BUILDERS:
        export(name)


if __name__ == "__main__":
    main()
