"""Writes `test/fixtures/pipelines/`: a tiny pipeline of each family in diffusers' layout, its parts as ONNX with
Optimum's names, and what diffusers' own pipeline paints with the same weights.

    python models/export/export_pipelines.py [family ...]

ONNX files are kept gzipped. Goldens are painted by PyTorch from latents that are kept beside them.
"""

import gzip
import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
import torch
from diffusers.models.transformers import transformer_flux
from PIL import Image

from export_emoji_sd import diffusers_config, pipeline_index, transformers_config
from skeleton import strip_metadata
from tiny_pipelines import LATENT_CHANNELS, QWEN_WIDTH, T5_WIDTH, CLIP_WIDTH, build_pipeline
from tiny_tokenizer import MAX_LENGTH, write_json
from z_image import RealZImage, prove

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "test" / "fixtures" / "pipelines"
OPSET = 17
HEIGHT, WIDTH = 64, 96
ROWS, COLUMNS = HEIGHT // 8, WIDTH // 8
SEED = 7

BATCH = {0: "batch_size"}
TEXT = {0: "batch_size", 1: "sequence_length"}
PICTURE = {0: "batch_size", 2: "height", 3: "width"}


@dataclass(frozen=True)
class Part:
    """A network as it is exported: its inputs are examples, with which ONNX Runtime is checked against PyTorch."""

    folder: str
    module: torch.nn.Module
    config: dict
    inputs: dict
    outputs: tuple
    axes: dict


class ClipEncoder(torch.nn.Module):
    """With every hidden state as an output, as Optimum exports the encoders of SDXL and Stable Diffusion 3."""

    def __init__(self, model, first):
        super().__init__()
        self.model, self.first = model, first

    def forward(self, input_ids):
        output = self.model(input_ids, output_hidden_states=True)
        return tuple(getattr(output, name) for name in self.first) + tuple(output.hidden_states)


class LastHiddenState(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        return self.model(input_ids).last_hidden_state


class QwenEncoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        return (output.last_hidden_state, *output.hidden_states)


class VaeDecoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, latent_sample):
        return self.model.decode(latent_sample, return_dict=False)[0]


class Denoiser(torch.nn.Module):
    """Takes a denoiser's inputs by position."""

    def __init__(self, model, names):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *values):
        return self.model(**dict(zip(self.names, values, strict=True)), return_dict=False)[0]


class SdxlUnet(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, encoder_hidden_states, text_embeds, time_ids):
        added = {"text_embeds": text_embeds, "time_ids": time_ids}
        return self.model(sample, timestep, encoder_hidden_states, added_cond_kwargs=added, return_dict=False)[0]


def clip_part(folder, model):
    projected = hasattr(model, "text_projection")
    first = ("text_embeds", "last_hidden_state") if projected else ("last_hidden_state", "pooler_output")
    outputs = (*first, *(f"hidden_states.{index}" for index in range(model.config.num_hidden_layers + 1)))
    axes = {name: BATCH if name in ("text_embeds", "pooler_output") else TEXT for name in outputs}
    ids = torch.randint(0, 700, (2, MAX_LENGTH))
    module = ClipEncoder(model, first)
    return Part(folder, module, transformers_config(model), {"input_ids": ids}, outputs, axes | {"input_ids": TEXT})


def t5_part(folder, model):
    ids = torch.randint(0, 200, (2, 48))
    outputs, axes = ("last_hidden_state",), {"input_ids": TEXT, "last_hidden_state": TEXT}
    return Part(folder, LastHiddenState(model), transformers_config(model), {"input_ids": ids}, outputs, axes)


def qwen_part(folder, model):
    inputs = {"input_ids": torch.randint(0, 300, (1, 24)), "attention_mask": torch.ones(1, 24, dtype=torch.int64)}
    outputs = ("last_hidden_state", *(f"hidden_states.{index}" for index in range(model.config.num_hidden_layers + 1)))
    axes = {name: TEXT for name in (*inputs, *outputs)}
    return Part(folder, QwenEncoder(model), transformers_config(model), inputs, outputs, axes)


def vae_part(model):
    axes = {"latent_sample": {0: "batch_size", 2: "height_latent", 3: "width_latent"}, "sample": PICTURE}
    inputs = {"latent_sample": torch.randn(1, LATENT_CHANNELS, ROWS, COLUMNS)}
    return Part("vae_decoder", VaeDecoder(model), diffusers_config(model), inputs, ("sample",), axes)


def sdxl_parts(pipeline):
    inputs = {
        "sample": torch.randn(2, LATENT_CHANNELS, ROWS, COLUMNS),
        "timestep": torch.tensor(601.0),
        "encoder_hidden_states": torch.randn(2, MAX_LENGTH, 2 * CLIP_WIDTH),
        "text_embeds": torch.randn(2, CLIP_WIDTH),
        "time_ids": torch.tensor([[64.0, 96, 0, 0, 64, 96]] * 2),
    }
    axes = {"sample": PICTURE, "encoder_hidden_states": TEXT, "text_embeds": BATCH, "time_ids": BATCH, "out_sample": PICTURE}
    unet = Part("unet", SdxlUnet(pipeline.unet), diffusers_config(pipeline.unet), inputs, ("out_sample",), axes)
    return [clip_part("text_encoder", pipeline.text_encoder), clip_part("text_encoder_2", pipeline.text_encoder_2), unet]


def transformer_part(pipeline, inputs, axes):
    model = pipeline.transformer
    module = Denoiser(model, list(inputs))
    return Part("transformer", module, diffusers_config(model), inputs, ("out_hidden_states",), axes)


def sd3_parts(pipeline):
    inputs = {
        "hidden_states": torch.randn(2, LATENT_CHANNELS, ROWS, COLUMNS),
        "encoder_hidden_states": torch.randn(2, 40, T5_WIDTH),
        "pooled_projections": torch.randn(2, 2 * CLIP_WIDTH),
        "timestep": torch.tensor([601.0, 601.0]),
    }
    axes = {
        "hidden_states": PICTURE, "encoder_hidden_states": TEXT, "pooled_projections": BATCH, "timestep": {0: "step"},
        "out_hidden_states": PICTURE,
    }  # fmt: skip
    return [
        clip_part("text_encoder", pipeline.text_encoder),
        clip_part("text_encoder_2", pipeline.text_encoder_2),
        t5_part("text_encoder_3", pipeline.text_encoder_3),
        transformer_part(pipeline, inputs, axes),
    ]


def flux_parts(pipeline):
    tokens = ROWS * COLUMNS // 4
    inputs = {
        "hidden_states": torch.randn(1, tokens, 4 * LATENT_CHANNELS),
        "encoder_hidden_states": torch.randn(1, 40, T5_WIDTH),
        "pooled_projections": torch.randn(1, CLIP_WIDTH),
        "timestep": torch.tensor([0.6]),
        "txt_ids": torch.zeros(40, 3),
        "img_ids": torch.randint(0, 4, (tokens, 3)).float(),
        "guidance": torch.tensor([3.5]),
    }
    packed = {0: "batch_size", 1: "packed_height_width"}
    axes = {
        "hidden_states": packed, "encoder_hidden_states": TEXT, "pooled_projections": BATCH, "timestep": {0: "step"},
        "txt_ids": {0: "sequence_length"}, "img_ids": {0: "packed_height_width"}, "guidance": BATCH,
        "out_hidden_states": packed,
    }  # fmt: skip
    return [
        clip_part("text_encoder", pipeline.text_encoder),
        t5_part("text_encoder_2", pipeline.text_encoder_2),
        transformer_part(pipeline, inputs, axes),
    ]


def z_image_parts(pipeline):
    print(f"  real-valued transformer: largest relative difference {prove(pipeline.transformer):.1e}")
    inputs = {
        "hidden_states": torch.randn(2, LATENT_CHANNELS, ROWS, COLUMNS),
        "timestep": torch.tensor([0.4, 0.4]),
        "encoder_hidden_states": torch.randn(2, 64, QWEN_WIDTH),
        "encoder_attention_mask": (torch.arange(64) < torch.tensor([[9], [40]])).long(),
    }
    # Height and width stay fixed: the positions of the picture's patches are constants.
    axes = {
        "hidden_states": BATCH, "timestep": BATCH, "encoder_hidden_states": TEXT, "encoder_attention_mask": TEXT,
        "out_hidden_states": BATCH,
    }  # fmt: skip
    config = diffusers_config(pipeline.transformer)
    module = RealZImage(pipeline.transformer)
    transformer = Part("transformer", module, config, inputs, ("out_hidden_states",), axes)
    return [qwen_part("text_encoder", pipeline.text_encoder), transformer]


PARTS = {"sdxl": sdxl_parts, "sd3": sd3_parts, "flux": flux_parts, "z-image": z_image_parts}

PROMPT, NEGATIVE = "a red cat on the beach, oil painting", "blurry, low quality"
# A golden's name, and what is asked of the pipeline beside the prompt.
GOLDENS = {
    "sdxl": {
        "guided": dict(negative_prompt=NEGATIVE, guidance_scale=5.0, num_inference_steps=4),
        "no-negative": dict(guidance_scale=5.0, num_inference_steps=2),
    },
    "sd3": {
        "guided": dict(negative_prompt=NEGATIVE, guidance_scale=7.0, num_inference_steps=4),
        "no-t5": dict(guidance_scale=7.0, num_inference_steps=2),
    },
    "flux": {"guided": dict(guidance_scale=3.5, num_inference_steps=4)},
    "z-image": {
        "turbo": dict(guidance_scale=0.0, num_inference_steps=8),
        "guided": dict(negative_prompt=NEGATIVE, guidance_scale=3.0, num_inference_steps=2),
    },
}


def check(part, path):
    """Compares ONNX Runtime with PyTorch; raises where they differ."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(list(part.outputs), {name: value.numpy() for name, value in part.inputs.items()})
    expected = part.module(*part.inputs.values())
    for name, a, b in zip(part.outputs, found, expected if isinstance(expected, tuple) else (expected,), strict=True):
        difference = float(np.abs(a - b.numpy()).max() / np.abs(a).max())
        if not difference < 1e-4:
            raise AssertionError(f"{part.folder} {name}: expected ONNX Runtime to agree, found {difference:.1e}")


def plain_rms_norm(self, values):
    """torch.nn.RMSNorm in parts, for the TorchScript exporter does not know the whole."""
    return values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(values, rotation, sequence_dim):
    """FLUX's rotation of neighbours as a pair; diffusers' own leaves the traced number of tokens in the graph."""
    cosines, sines = (table[None, :, None] for table in rotation)
    real, imaginary = values.unflatten(-1, (-1, 2)).unbind(-1)
    return values * cosines + torch.stack([-imaginary, real], dim=-1).flatten(3) * sines


def export_part(part, target):
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model.onnx")
        names = dict(input_names=list(part.inputs), output_names=list(part.outputs), dynamic_axes=part.axes)
        # Only while exporting: the check below and the goldens are diffusers' own.
        with (
            patch.object(torch.nn.RMSNorm, "forward", plain_rms_norm),
            patch.object(transformer_flux, "apply_rotary_emb", rotate),
        ):
            torch.onnx.export(part.module.eval(), tuple(part.inputs.values()), path, dynamo=False, opset_version=OPSET, **names)
        model = onnx.load(path)
        strip_metadata(model)
        onnx.save(model, path)
        check(part, path)
        folder = target / part.folder
        folder.mkdir(parents=True, exist_ok=True)
        packed = gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)
        (folder / "model.onnx.gz").write_bytes(packed)
        write_json(folder / "config.json", part.config)
        print(f"  {part.folder}: {len(model.graph.node)} nodes, {path.stat().st_size} bytes, {len(packed)} gzipped", flush=True)


def initial_latents(family):
    """Unit noise in the VAE's layout, and as the family's pipeline takes it."""
    latents = torch.randn(1, LATENT_CHANNELS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(SEED))
    if family != "flux":
        return latents, latents
    pack = latents.view(1, LATENT_CHANNELS, ROWS // 2, 2, COLUMNS // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return latents, pack.reshape(1, ROWS * COLUMNS // 4, 4 * LATENT_CHANNELS)


def paint(pipeline, family, asked, prompt=PROMPT):
    _, latents = initial_latents(family)
    picture = pipeline(prompt, height=HEIGHT, width=WIDTH, latents=latents, **asked).images[0]
    return np.asarray(picture)


def psnr(left, right):
    error = float(((left.astype(float) - right.astype(float)) ** 2).mean())
    return float("inf") if error == 0 else 10 * np.log10(255**2 / error)


def make_goldens(pipeline, family, target):
    latents, _ = initial_latents(family)
    (target / "initial.bin").write_bytes(latents.numpy().astype("<f4").tobytes())
    tokens = token_goldens(pipeline)
    goldens = {}
    for name, asked in GOLDENS[family].items():
        if name == "no-t5":
            pipeline.text_encoder_3 = pipeline.tokenizer_3 = None
        picture = paint(pipeline, family, asked)
        other = paint(pipeline, family, asked, prompt="a blue robot in the snow")
        print(f"  {name}: picture spread {picture.std():.1f}, another prompt {psnr(picture, other):.1f} dB", flush=True)
        Image.fromarray(picture).save(target / f"{name}.png", optimize=True)
        goldens[name] = asked
    asked = {"prompt": PROMPT, "seed": SEED, "height": HEIGHT, "width": WIDTH}
    write_json(target / "goldens.json", asked | {"pictures": goldens, "tokens": tokens})


# What tokenizers take apart in different ways.
TEXTS = ("", PROMPT, "  Two   spaces, CAPITALS & 42 numbers!", "naïve café, ﬁne ½", "雪の中の猫 🐈", "line\nbreak\ttab it's")


def token_goldens(pipeline):
    """The ids of transformers' tokenizers, without padding."""
    tokenizers = {name: getattr(pipeline, name, None) for name in ("tokenizer", "tokenizer_2", "tokenizer_3")}
    return {
        name: [{"text": text, "ids": tokenizer(text).input_ids} for text in TEXTS]
        for name, tokenizer in tokenizers.items()
        if tokenizer is not None
    }


def write_tokenizers(pipeline, target):
    """CLIP's as Optimum writes them, vocabulary and merges; the others as tokenizer.json."""
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        tokenizer = getattr(pipeline, name, None)
        if tokenizer is None:
            continue
        folder = target / name
        if (folder / "vocab.json").exists():
            (folder / "tokenizer.json").unlink()
            pad = {"pad_token": tokenizer.pad_token}
            special = {"bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token, "unk_token": tokenizer.unk_token} | pad
            write_json(folder / "special_tokens_map.json", special)
            write_json(folder / "tokenizer_config.json", special | {"model_max_length": MAX_LENGTH, "tokenizer_class": "CLIPTokenizer"})
        else:
            tokenizer.save_pretrained(folder)


@torch.no_grad()
def make(family):
    print(family, flush=True)
    target = FIXTURES / family
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    pipeline = build_pipeline(family, target)
    write_tokenizers(pipeline, target)
    torch.manual_seed(1)
    for part in [*PARTS[family](pipeline), vae_part(pipeline.vae)]:
        export_part(part, target)
    pipeline.scheduler.save_pretrained(target / "scheduler")
    write_json(target / "model_index.json", pipeline_index(pipeline))
    make_goldens(pipeline, family, target)
    total = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"  {total} bytes", flush=True)


def main():
    warnings.filterwarnings("ignore")
    for family in sys.argv[1:] or PARTS:
        make(family)


if __name__ == "__main__":
    main()
