"""Exports diffusers' UNet2DConditionModel with PyTorch's own exporters to the skeletons of `test/fixtures/unets/`.

    python models/export/export_unets.py [name ...] [--scratch DIR]

Without names, all of them. The real SD 1.5 and SDXL are exported without their memory: every weight is one value,
expanded, which the exporter cannot tell from a whole tensor; it needs the disk space of the weights (10 GB) for as
long as it runs. Every tiny export is checked: ONNX Runtime with the skeleton and the real weights against PyTorch.
"""

import argparse
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from skeleton import WEIGHTS_FILE, make_skeleton, write_skeleton

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "test" / "fixtures" / "unets"
# Not a fixture alone: `tandem bench --showcase` measures it.
ELSEWHERE = {"sd15-ts17-sym": (ROOT / "models" / "showcase", "sd15")}

DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")

# Shaped like Stable Diffusion 1.5, with widths, groups and heads that 2, 3 and 4 divide; as there, the skip Concat of 144 + 96
# channels has a group across its seam.
# diffusers calls the number of heads `attention_head_dim`.
TINY = dict(
    sample_size=16,
    down_block_types=DOWN,
    up_block_types=UP,
    block_out_channels=(48, 96, 144, 144),
    layers_per_block=1,
    norm_num_groups=12,
    cross_attention_dim=64,
    attention_head_dim=12,
)

# 5 heads do not divide by 2.
FIVE_HEADS = TINY | dict(
    down_block_types=DOWN[1:],
    up_block_types=UP[:-1],
    block_out_channels=(80, 160, 320),
    norm_num_groups=20,
    attention_head_dim=5,
)

# As in SD 2.x: linear projections, heads of one size, so more of them in deeper levels. No group lies across a seam.
LINEAR_PROJECTION = TINY | dict(
    block_out_channels=(48, 96, 192, 192), use_linear_projection=True, attention_head_dim=(6, 12, 24, 24)
)

SD15 = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)

SDXL = dict(
    sample_size=128,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    block_out_channels=(320, 640, 1280),
    attention_head_dim=(5, 10, 20),
    transformer_layers_per_block=(1, 2, 10),
    cross_attention_dim=2048,
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)


@dataclass(frozen=True)
class Export:
    """One file of the fixtures. `tokens` is the sequence length of the text; 16 keeps the tiny ones quick."""

    name: str
    config: dict
    opset: int
    dynamo: bool = False
    symbolic: bool = False
    batch: int = 2
    tokens: int = 16
    # Optimum's older exports give the timestep a dim, its newer ones do not.
    timestep_shape: tuple = ()
    old_attention: bool = False
    huge: bool = False


EXPORTS = (
    Export("tiny-ts17", TINY, 17),
    Export("tiny-ts14", TINY, 14, timestep_shape=(1,)),
    Export("tiny-dynamo18", TINY, 18, dynamo=True),
    Export("tiny-ts17-sym", TINY | dict(layers_per_block=2), 17, symbolic=True),
    Export("tiny-ts14-sym", TINY, 14, symbolic=True, timestep_shape=(1,)),
    Export("tiny-dynamo18-sym", TINY, 18, dynamo=True, symbolic=True),
    Export("tiny-5heads-ts17", FIVE_HEADS, 17),
    Export("tiny-linearproj-dynamo18", LINEAR_PROJECTION, 18, dynamo=True),
    Export("tiny-oldattn-ts14", TINY, 14, old_attention=True),
    Export("sd15-ts17", SD15, 17, batch=1, tokens=77, huge=True),
    Export("sd15-ts17-sym", SD15, 17, symbolic=True, batch=2, tokens=77, huge=True),
    Export("sdxl-ts17", SDXL, 17, batch=1, tokens=77, huge=True),
    Export("sdxl-ts17-sym", SDXL, 17, symbolic=True, batch=1, tokens=77, huge=True),
)


class Denoiser(torch.nn.Module):
    """The UNet with Optimum's inputs and output."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, sample, timestep, encoder_hidden_states, text_embeds=None, time_ids=None):
        added = None if text_embeds is None else {"text_embeds": text_embeds, "time_ids": time_ids}
        return self.unet(
            sample, timestep, encoder_hidden_states, added_cond_kwargs=added, return_dict=False
        )[0]


def perturb_norms(module):
    """Moves norm scales off one and norm biases off zero, so that leaving one out, or swapping two, shows."""
    if isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
        torch.nn.init.normal_(module.weight, 1.0, 0.1)
        torch.nn.init.normal_(module.bias, 0.0, 0.05)


def build_unet(export):
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**export.config).eval().requires_grad_(False)
    unet.apply(perturb_norms)
    return unet


@dataclass
class ExpandedWeights:
    """Statistics of weights that were replaced by one expanded value each; the value says which weight it was."""

    by_value: dict = field(default_factory=dict)

    def replace(self, module, name, parameter):
        # Distinct values, for the exporter merges tensors that are equal.
        value = np.float32(1e-3 + 1e-6 * len(self.by_value))
        self.by_value[float(value)] = (float(parameter.mean()), float(parameter.std()))
        expanded = torch.tensor(float(value), dtype=torch.float32).expand(parameter.shape)
        setattr(module, name, torch.nn.Parameter(expanded, requires_grad=False))

    def statistics(self, values):
        return self.by_value[float(values.flat[0])]


def build_huge_unet(export):
    """Initialises one layer at a time, keeps the statistics of its weights, and drops them."""
    torch.manual_seed(0)
    weights = ExpandedWeights()
    with torch.device("meta"):
        unet = UNet2DConditionModel(**export.config).eval().requires_grad_(False)
    for module in unet.modules():
        own = list(module.named_parameters(recurse=False))
        if not own:
            continue
        module.to_empty(device="cpu", recurse=False)
        module.reset_parameters()
        perturb_norms(module)
        for name, _ in own:
            weights.replace(module, name, getattr(module, name))
    return unet, weights


def example_inputs(export, unet):
    config, generator = unet.config, torch.Generator().manual_seed(1)
    size = config.sample_size
    inputs = {
        "sample": torch.randn(export.batch, config.in_channels, size, size, generator=generator),
        "timestep": torch.full(export.timestep_shape, 601, dtype=torch.int64),
        "encoder_hidden_states": torch.randn(
            export.batch, export.tokens, config.cross_attention_dim, generator=generator
        ),
    }
    if config.addition_embed_type == "text_time":
        inputs["text_embeds"] = torch.randn(export.batch, 1280, generator=generator)
        inputs["time_ids"] = torch.tensor([[1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]] * export.batch)
    return inputs


IMAGE_AXES = {0: "batch_size", 2: "height", 3: "width"}
# Optimum's names.
AXES = {
    "sample": IMAGE_AXES,
    "encoder_hidden_states": {0: "batch_size", 1: "sequence_length"},
    "text_embeds": {0: "batch_size"},
    "time_ids": {0: "batch_size"},
    "out_sample": IMAGE_AXES,
}


def export_onnx(export, denoiser, inputs, path):
    common = dict(input_names=list(inputs), output_names=["out_sample"], opset_version=export.opset)
    arguments = tuple(inputs.values())
    axes = {name: AXES[name] for name in (*inputs, "out_sample") if name in AXES}
    if export.dynamo:
        shapes = {name: AXES.get(name) for name in inputs} if export.symbolic else None
        torch.onnx.export(denoiser, arguments, path, dynamo=True, external_data=False, dynamic_shapes=shapes,
                          verbose=False, **common)
    else:
        torch.onnx.export(denoiser, arguments, path, dynamo=False, dynamic_axes=axes if export.symbolic else None,
                          **common)


def check(model, folder, denoiser, inputs):
    """Runs the skeleton over the real weights that lie in `folder`; raises where it is not what PyTorch computes."""
    path = Path(folder, "check.onnx")
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["out_sample"], {name: value.numpy() for name, value in inputs.items()})
    expected = denoiser(**inputs).numpy()
    difference = float(np.abs(found - expected).max())
    print(f"  against PyTorch: largest difference {difference:.2e}, largest value {np.abs(expected).max():.2f}")
    if not difference < 1e-4:
        raise AssertionError(f"the skeleton computes something else: expected a difference below 1e-4, found {difference}")


@torch.no_grad()
def run(export, scratch):
    unet, expanded = build_huge_unet(export) if export.huge else (build_unet(export), None)
    if export.old_attention:
        unet.set_attn_processor(AttnProcessor())
    denoiser, inputs = Denoiser(unet).eval(), example_inputs(export, unet)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = str(Path(folder, "model.onnx"))
        export_onnx(export, denoiser, inputs, path)
        model, weights = make_skeleton(
            path,
            statistics=expanded.statistics if expanded else None,
            weights_file=None if expanded else Path(folder, WEIGHTS_FILE),
        )
        write_skeleton(model, weights, *ELSEWHERE.get(export.name, (FIXTURES, export.name)))
        if not expanded:
            check(model, folder, denoiser, inputs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="which to export; all where absent")
    parser.add_argument("--scratch", help="folder for the exporter's own files")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    FIXTURES.mkdir(parents=True, exist_ok=True)
    wanted = arguments.names or [export.name for export in EXPORTS]
    unknown = set(wanted) - {export.name for export in EXPORTS}
    if unknown:
        parser.error(f"unknown names: {', '.join(sorted(unknown))}")
    for export in EXPORTS:
        if export.name in wanted:
            run(export, arguments.scratch)


if __name__ == "__main__":
    main()
