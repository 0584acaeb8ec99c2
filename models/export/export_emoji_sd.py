"""Writes `models/emoji-sd/`: the trained model in diffusers' layout, its parts as ONNX with Optimum's names.

    python models/export/export_emoji_sd.py --work FOLDER

FOLDER is the one that the training scripts wrote. Any Stable Diffusion 1.x or 2.x that `optimum-cli export onnx` wrote can
stand in the model's place.
"""

import argparse
import shutil
import sys
import warnings
from pathlib import Path

import diffusers
import numpy as np
import onnx
import onnxruntime
import torch

from skeleton import strip_metadata

MODELS = Path(__file__).resolve().parents[1]
sys.path.append(str(MODELS / "train"))
from clip_tokenizer import MAX_LENGTH, write_json  # noqa: E402
from parts import TEXT_WIDTH  # noqa: E402
from trained import load_pipeline  # noqa: E402

FOLDER = MODELS / "emoji-sd"
PARTS = ("tokenizer", "text_encoder", "unet", "vae_decoder", "scheduler")
OPSET = 17
# Entries that say how a configuration came about, not what it is.
HIDDEN = ("_name_or_path", "_use_default_values")


class TextEncoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.text_model = getattr(model, "text_model", model)

    def forward(self, input_ids):
        output = self.text_model(input_ids)
        return output.last_hidden_state, output.pooler_output


class UNet(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.unet = model

    def forward(self, sample, timestep, encoder_hidden_states):
        return self.unet(sample, timestep, encoder_hidden_states, return_dict=False)[0]


class VaeDecoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.post_quant_conv, self.decoder = model.post_quant_conv, model.decoder

    def forward(self, latent_sample):
        return self.decoder(self.post_quant_conv(latent_sample))


def inputs_of(part, batch, tokens, height, width):
    """Example inputs; the sizes are those of the latents."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(batch, 4, height, width, generator=generator)
    if part == "text_encoder":
        return {"input_ids": torch.randint(0, 700, (batch, tokens), generator=generator)}
    if part == "vae_decoder":
        return {"latent_sample": latents}
    return {
        "sample": latents,
        # Float, for some schedules have timesteps between two integers.
        "timestep": torch.tensor(601.0),
        "encoder_hidden_states": torch.randn(batch, tokens, TEXT_WIDTH, generator=generator),
    }


TEXT_AXES = {0: "batch_size", 1: "sequence_length"}
AXES = {
    "text_encoder": {"input_ids": TEXT_AXES, "last_hidden_state": TEXT_AXES, "pooler_output": {0: "batch_size"}},
    "unet": {
        "sample": {0: "batch_size", 2: "height", 3: "width"},
        "encoder_hidden_states": TEXT_AXES,
        "out_sample": {0: "batch_size", 2: "height", 3: "width"},
    },
    "vae_decoder": {
        "latent_sample": {0: "batch_size", 2: "latent_height", 3: "latent_width"},
        "sample": {0: "batch_size", 2: "height", 3: "width"},
    },
}
OUTPUTS = {
    "text_encoder": ["last_hidden_state", "pooler_output"],
    "unet": ["out_sample"],
    "vae_decoder": ["sample"],
}


def check(path, part, module, inputs):
    """Compares ONNX Runtime with PyTorch; raises where they differ."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(OUTPUTS[part], {name: value.numpy() for name, value in inputs.items()})
    expected = module(*inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    for name, a, b in zip(OUTPUTS[part], found, expected, strict=True):
        difference = float(np.abs(a - b.numpy()).max())
        print(f"  {part} {name} {list(a.shape)}: largest difference {difference:.2e}, spread {a.std():.2f}")
        if not difference < 1e-3:
            raise AssertionError(f"{part} {name}: expected a difference below 1e-3, found {difference}")


def export_part(part, module, config):
    folder = FOLDER / part
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    inputs = inputs_of(part, batch=2, tokens=MAX_LENGTH, height=16, width=16)
    torch.onnx.export(module, tuple(inputs.values()), path, dynamo=False, opset_version=OPSET,
                      input_names=list(inputs), output_names=OUTPUTS[part], dynamic_axes=AXES[part])
    model = onnx.load(path)
    strip_metadata(model)
    onnx.save(model, path)
    write_json(folder / "config.json", config)
    print(f"{part}: {len(model.graph.node)} nodes, {path.stat().st_size} bytes")
    check(path, part, module, inputs)
    check(path, part, module, inputs_of(part, batch=1, tokens=MAX_LENGTH, height=32, width=24))


def transformers_config(model):
    return {"architectures": [type(model).__name__]} | model.config.to_diff_dict()


def diffusers_config(model):
    """Without the list of entries that were left at their defaults, and without those that are not set."""
    config = {"_class_name": type(model).__name__, "_diffusers_version": diffusers.__version__} | dict(model.config)
    return {key: value for key, value in config.items() if key not in HIDDEN and value is not None}


def pipeline_index(pipeline):
    """The parts by name, each with its library and class. Optimum exports the decoder apart from the encoder."""
    index = {"_class_name": type(pipeline).__name__, "_diffusers_version": diffusers.__version__} | dict(pipeline.config)
    index["vae_decoder"] = index.pop("vae")
    return {key: value for key, value in index.items() if key not in HIDDEN}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True, type=Path)
    work = parser.parse_args().work
    warnings.filterwarnings("ignore")
    for part in PARTS:
        shutil.rmtree(FOLDER / part, ignore_errors=True)
    shutil.copytree(work / "tokenizer", FOLDER / "tokenizer")
    pipeline = load_pipeline(work)
    export_part("text_encoder", TextEncoder(pipeline.text_encoder).eval(), transformers_config(pipeline.text_encoder))
    export_part("unet", UNet(pipeline.unet).eval(), diffusers_config(pipeline.unet))
    export_part("vae_decoder", VaeDecoder(pipeline.vae).eval(), diffusers_config(pipeline.vae))
    pipeline.scheduler.save_pretrained(FOLDER / "scheduler")
    write_json(FOLDER / "model_index.json", pipeline_index(pipeline))
    total = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    print(f"{FOLDER.name}: {total} bytes")


if __name__ == "__main__":
    main()
