"""What PyTorch's TorchScript exporter lacks: a translation of `torch.nn.RMSNorm`, which FLUX has."""

import torch
from torch.onnx import symbolic_helper


@symbolic_helper.parse_args("v", "is", "v", "f")
def rms_norm(graph, x, normalized_shape, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich 2019)."""
    if len(normalized_shape) != 1:
        raise NotImplementedError(f"expected a norm over one axis, found {normalized_shape}")
    squares = graph.op("Mul", x, x)
    mean = graph.op("ReduceMean", squares, axes_i=[-1])
    root = graph.op("Sqrt", graph.op("Add", mean, graph.op("Constant", value_t=torch.tensor(torch.finfo(torch.float32).eps if eps is None else eps))))
    normed = graph.op("Div", x, root)
    return normed if symbolic_helper._is_none(weight) else graph.op("Mul", normed, weight)


def allow_rms_norm():
    torch.onnx.register_custom_op_symbolic("aten::rms_norm", rms_norm, 14)
