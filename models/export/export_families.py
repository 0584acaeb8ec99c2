"""Exports each model family's network with PyTorch's own exporters to the skeletons of `test/fixtures/families/`.

    python models/export/export_families.py [name ...] [--scratch DIR]

Without names, all of them. Small exports have random weights and are checked: ONNX Runtime with the skeleton and its
weights against PyTorch. Real ones (`-real`) have the published configuration and no weights: every weight is one value,
expanded, which the exporter cannot tell from a whole tensor, and none is ever written.
"""

import argparse
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

from families import FAMILIES, Denoiser
from more_families import MORE
from skeleton import WEIGHTS_FILE, make_skeleton, strip_metadata, write_skeleton
from torchscript import allow_rms_norm

FIXTURES = Path(__file__).resolve().parents[2] / "test" / "fixtures" / "families"
# Smaller tensors stay in the graph; the families' widths are so small that most biases are below a kilobyte.
MIN_BYTES = 65
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2}


# Qwen-Image's 60 blocks are 28,000 nodes as dynamo writes them, over which the exporter's optimiser does not come to an end.
UNOPTIMISED = {("qwenimage", True)}


@dataclass(frozen=True)
class Export:
    """One file of the fixtures."""

    family: str
    opset: int
    dynamo: bool = False
    half: bool = False
    real: bool = False
    # Model type for ONNX Runtime's transformer optimiser, which then goes over the export.
    fused: str | None = None
    # Queries, keys and values of one product, as diffusers' `fuse_qkv_projections` makes them.
    qkv: bool = False

    @property
    def name(self):
        exporter = f"{'dynamo' if self.dynamo else 'ts'}{self.opset}"
        endings = {"fp16": self.half, "real": self.real, "qkv": self.qkv, "fused": self.fused}
        return "-".join([self.family, exporter, *(ending for ending, has in endings.items() if has)])

    @property
    def dtype(self):
        return torch.float16 if self.half else torch.float32


# TorchScript's exporter does not know how Qwen3 makes its masks; of LTX-Video's time embedding it writes a Concat along an axis that
# is not there.
SMALL = [
    Export(family, opset, dynamo)
    for family in FAMILIES
    for opset, dynamo in (((17, False), (18, True)) if family in MORE else ((14, False), (17, False), (18, True), (23, True)))
    if dynamo or family not in ("qwen3", "ltx")
]
# FLUX at half precision overflows on random inputs (timestep times 1000), so it would prove nothing.
HALF = [Export("sdxl", 17, half=True), Export("sd35", 18, True, half=True)]
REAL = [Export(name, 18, True, real=True) for name, family in FAMILIES.items() if family.real]
FUSED = [Export("sd35", 17, fused="mmdit"), Export("clip", 17, fused="clip")]
# The dual layers of SD3.5 fail in diffusers itself when fused.
QKV = [Export("sdxl", 17, qkv=True), Export("sd3", 18, True, qkv=True), Export("flux", 23, True, qkv=True)]
EXPORTS = (*SMALL, *HALF, *REAL, *FUSED, *QKV)


def perturb(model):
    """Random values where a fresh model has ones and zeros, behind which a wrong split would not show."""
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.add_(torch.randn_like(parameter) * 0.1)
        elif parameter.abs().max() == 0:
            parameter.normal_(0, 0.05)


def build_small(export):
    torch.manual_seed(0)
    model = FAMILIES[export.family].build(**FAMILIES[export.family].small).eval().requires_grad_(False)
    perturb(model)
    if export.qkv:
        model.fuse_qkv_projections()
    return model.to(export.dtype)


def build_real(export):
    """Every weight is one value, expanded; distinct ones, for exporters merge equal tensors."""
    with torch.device("meta"):
        model = FAMILIES[export.family].build(**FAMILIES[export.family].real).eval().requires_grad_(False)
    for index, (name, tensor) in enumerate([*model.named_parameters(), *model.named_buffers()]):
        owner = model.get_submodule(name.rpartition(".")[0])
        expanded = torch.tensor(1e-3 + 1e-6 * index, dtype=tensor.dtype).expand(tensor.shape)
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        setattr(owner, name.rpartition(".")[2], torch.nn.Parameter(expanded, False) if is_parameter else expanded)
    return model


def example_inputs(export):
    torch.manual_seed(1)
    family = FAMILIES[export.family]
    config, sizes = (family.real, family.real_sizes) if export.real else (family.small, family.small_sizes)
    inputs = family.inputs(config, sizes)
    # Timesteps and identities stay in single precision, as pipelines feed them.
    halved = {"sample", "hidden_states", "encoder_hidden_states", "pooled_projections", "text_embeds", "latent_sample"}
    return {name: value.to(export.dtype) if name in halved else value for name, value in inputs.items()}


def trace(denoiser, inputs):
    """The dynamo exporter's first step. Its second writes a Squeeze for `x.squeeze(1)` even where that does nothing, as in
    PixArt, and ONNX Runtime refuses it; so those are taken out."""
    program = torch.export.export(denoiser, tuple(inputs.values()), strict=False)
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten.squeeze.dim and node.args[0].meta["val"].shape[node.args[1]] != 1:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    return program


def export_onnx(export, denoiser, inputs, path=None):
    """Writes `path`; without one, gives the program that would be written."""
    common = dict(input_names=list(inputs), output_names=["out_sample"], opset_version=export.opset, dynamo=export.dynamo)
    if not export.dynamo:
        return torch.onnx.export(denoiser, tuple(inputs.values()), path, **common)
    external = dict(external_data=False) if path else {}
    options = dict(optimize=(export.family, export.real) not in UNOPTIMISED, verbose=False)
    return torch.onnx.export(trace(denoiser, inputs), (), path, **options, **common, **external)


def fuse(path, model_type):
    """As for a GPU, whose operators the CPU provider lacks."""
    options = dict(opt_level=0, optimization_options=FusionOptions(model_type), use_gpu=True)
    fused = optimize_model(path, model_type=model_type, num_heads=0, hidden_size=0, **options)
    fused.save_model_to_file(path)


def check(model, folder, denoiser, inputs, dtype):
    """Runs the skeleton over the weights that lie in `folder`; raises where its first output is not what PyTorch computes."""
    path = Path(folder, "check.onnx")
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    fed = {each.name for each in session.get_inputs()}
    found = session.run(None, {name: value.numpy() for name, value in inputs.items() if name in fed})[0]
    expected = denoiser(*inputs.values()).numpy()
    difference = float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())
    print(f"  against PyTorch: largest relative difference {difference:.1e}")
    if not difference < TOLERANCE[dtype]:
        raise AssertionError(f"expected a difference below {TOLERANCE[dtype]}, found {difference}")


def run_small(export, scratch):
    denoiser, inputs = make_denoiser(export, build_small(export))
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path = str(Path(folder, "model.onnx"))
        export_onnx(export, denoiser, inputs, path)
        if export.fused:
            fuse(path, export.fused)
        model, weights = make_skeleton(path, weights_file=Path(folder, WEIGHTS_FILE), min_bytes=MIN_BYTES)
        write_skeleton(model, weights, FIXTURES, export.name)
        if not export.fused:
            check(model, folder, denoiser, inputs, export.dtype)


def leave_out_weights(program):
    """Points the program's large tensors at a file that is never written. Returns the ONNX model."""
    offset = 0
    for value in program.model.graph.initializers.values():
        tensor = value.const_value
        # Rotations' frequencies are in double precision; they are no weights.
        if tensor.nbytes < MIN_BYTES or tensor.dtype not in (onnx_ir.DataType.FLOAT, onnx_ir.DataType.FLOAT16):
            continue
        value.const_value = onnx_ir.ExternalTensor(
            WEIGHTS_FILE, offset, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=value.name, base_dir="."
        )
        offset += tensor.nbytes
    return onnx_ir.to_proto(program.model)


def integers(name, values):
    return onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [len(values)], values)


def split_sequences(model):
    """What the optimiser would do of sequences: chunks that are taken out of one by number become the outputs of a Split."""
    graph = model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.dims in ([], [1])}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                constants[node.output[0]] = onnx.numpy_helper.to_array(attribute.t)
    shapes = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim] for info in graph.value_info}
    taken = {}
    for node in graph.node:
        if node.op_type == "SequenceAt":
            taken.setdefault(node.input[0], {})[int(constants[node.input[1]])] = node.output[0]
    nodes = []
    for node in graph.node:
        if node.op_type == "SplitToSequence":
            parts, size = taken[node.output[0]], int(constants[node.input[1]])
            axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
            count = shapes[node.input[0]][axis] // size
            sizes = integers(f"{node.output[0]}_sizes", [size] * count)
            graph.initializer.append(sizes)
            outputs = [parts.get(index, f"{node.output[0]}_{index}") for index in range(count)]
            nodes.append(onnx.helper.make_node("Split", [node.input[0], sizes.name], outputs, node.name, axis=axis))
        elif node.op_type != "SequenceAt":
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def run_real(export):
    denoiser, inputs = make_denoiser(export, build_real(export))
    model = leave_out_weights(export_onnx(export, denoiser, inputs))
    split_sequences(model)
    strip_metadata(model)
    write_skeleton(model, None, FIXTURES, export.name)


def make_denoiser(export, model):
    inputs = example_inputs(export)
    return Denoiser(model, FAMILIES[export.family], list(inputs)).eval(), inputs


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="which to export; all where absent")
    parser.add_argument("--scratch", help="folder for the exporter's own files")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {export.name for export in EXPORTS}
    if unknown:
        parser.error(f"unknown names: {', '.join(sorted(unknown))}")
    warnings.filterwarnings("ignore")
    allow_rms_norm()
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for export in EXPORTS:
        if not arguments.names or export.name in arguments.names:
            run_real(export) if export.real else run_small(export, arguments.scratch)


if __name__ == "__main__":
    main()
