"""Turns an exported ONNX file into a skeleton: the graph exactly as exported, with its large weights left out.

A skeleton's large tensors are external data of a `weights.bin` that is not kept. What a filler needs to write one
(offset, length, shape, mean and standard deviation) stands beside the graph in `<name>.weights.json.gz`, so that
group-norm scales come out near one and biases near zero.
"""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.external_data_helper import ExternalDataInfo

WEIGHTS_FILE = "weights.bin"
ALIGNMENT = 4096
MIN_BYTES = 1024
DTYPES = {onnx.TensorProto.FLOAT: ("float32", 4), onnx.TensorProto.FLOAT16: ("float16", 2)}


def tensors_of(graph):
    """Every initializer and every constant's tensor with its name, those of nested graphs included."""
    for initializer in graph.initializer:
        yield initializer.name, initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield node.output[0], attribute.t
            elif attribute.type == onnx.AttributeProto.GRAPH:
                yield from tensors_of(attribute.g)


def byte_length(tensor):
    return int(np.prod(tensor.dims, dtype=np.int64)) * DTYPES[tensor.data_type][1]


def is_large(tensor, min_bytes):
    return tensor.data_type in DTYPES and byte_length(tensor) >= min_bytes


def read_values(tensor, folder):
    """The tensor's values, mapped rather than read where they lie in a file of their own."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return numpy_helper.to_array(tensor)
    info = ExternalDataInfo(tensor)
    return np.memmap(
        Path(folder, info.location), dtype=f"<f{DTYPES[tensor.data_type][1]}", mode="r", offset=info.offset or 0, shape=tuple(tensor.dims)
    )


def inline(tensor, folder):
    """Brings the data of a small external tensor back into the graph."""
    values = np.ascontiguousarray(read_values(tensor, folder))
    tensor.raw_data = values.tobytes()
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def externalise(name, tensor, offset, mean, std):
    """Points the tensor at `weights.bin` and drops its data."""
    length = byte_length(tensor)
    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", WEIGHTS_FILE), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    tensor.doc_string = f"mean={mean:.6g} std={std:.6g}"
    return {
        "name": name,
        "offset": offset,
        "length": length,
        "dtype": DTYPES[tensor.data_type][0],
        "shape": list(tensor.dims),
        "mean": float(f"{mean:.6g}"),
        "std": float(f"{std:.6g}"),
    }


def strip_metadata(model):
    """Drops the exporter's stack traces: they are large and name the folders of the machine that exported."""
    for owner in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output,
                  *model.graph.initializer, *model.functions):
        del owner.metadata_props[:]
        owner.ClearField("doc_string")
    model.ClearField("doc_string")
    del model.metadata_props[:]


def make_skeleton(exported, statistics=None, weights_file=None, min_bytes=MIN_BYTES):
    """Loads the exported file and leaves its large tensors out.

    `statistics(values)` gives (mean, std) where they are not those of the values themselves. `weights_file` is where
    the real weights are written, at the offsets that the skeleton states; None to write none. Smaller tensors than
    `min_bytes` stay in the graph.
    Returns the model and its list of weights.
    """
    folder = os.path.dirname(exported)
    model = onnx.load(exported, load_external_data=False)
    strip_metadata(model)
    measure = statistics or (lambda values: (float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))))
    weights, offset = [], 0
    output = open(weights_file, "wb") if weights_file else None
    for name, tensor in tensors_of(model.graph):
        if not is_large(tensor, min_bytes):
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                inline(tensor, folder)
            continue
        values = read_values(tensor, folder)
        if output:
            output.seek(offset)
            output.write(np.ascontiguousarray(values).tobytes())
        entry = externalise(name, tensor, offset, *measure(values))
        weights.append(entry)
        offset += -(-entry["length"] // ALIGNMENT) * ALIGNMENT
    if output:
        output.close()
    return model, weights


def write_gzip(path, data):
    """Without a time stamp, so that the same export gives the same bytes."""
    Path(path).write_bytes(gzip.compress(data, 9, mtime=0))


def write_weights_list(weights, path):
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in weights)
    write_gzip(path, f"[\n{lines}\n]\n".encode())
    return path.stat().st_size


def count_values(model):
    """Of the tensors that were left out."""
    external = [tensor for _, tensor in tensors_of(model.graph) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return sum(byte_length(tensor) // DTYPES[tensor.data_type][1] for tensor in external)


def write_skeleton(model, weights, folder, name):
    """Writes `<name>.onnx.gz` and, where there are any, `<name>.weights.json.gz`, and prints what they contain."""
    graph_bytes = model.SerializeToString(deterministic=True)
    graph_file = Path(folder, f"{name}.onnx.gz")
    write_gzip(graph_file, graph_bytes)
    stored = graph_file.stat().st_size
    if weights is not None:
        stored += write_weights_list(weights, Path(folder, f"{name}.weights.json.gz"))
    histogram = Counter(node.op_type for node in model.graph.node)
    print(f"{name}: {len(model.graph.node)} nodes, {count_values(model) / 1e6:.2f} M values outside,")
    print(f"  graph {len(graph_bytes)} bytes, stored {stored} bytes, opset {model.opset_import[0].version}")
    print("  " + ", ".join(f"{op} {count}" for op, count in histogram.most_common()), flush=True)
