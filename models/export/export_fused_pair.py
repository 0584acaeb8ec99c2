"""Writes one very small SDXL-like UNet twice to `test/fixtures/families/`, with its weights: as PyTorch exports it
(`pair-plain.onnx.gz`), and as ONNX Runtime's transformer optimiser then fuses it for a GPU (`pair-fused.onnx.gz`).

    python models/export/export_fused_pair.py

The CPU provider cannot run the second; that Tandem takes it apart rightly shows in that both give the same.
"""

import tempfile
import warnings
from pathlib import Path

import onnx
import torch

from export_families import FIXTURES, Export, build_small, export_onnx, fuse, make_denoiser
from families import FAMILIES, SDXL_SMALL
from skeleton import strip_metadata, write_gzip

TINY = SDXL_SMALL | dict(
    block_out_channels=(8, 16, 16),
    transformer_layers_per_block=1,
    attention_head_dim=(1, 2, 2),
    cross_attention_dim=16,
    norm_num_groups=4,
    addition_time_embed_dim=8,
    projection_class_embeddings_input_dim=8 * 6 + 16,
)


def write(path, name):
    model = onnx.load(path)
    strip_metadata(model)
    write_gzip(FIXTURES / f"{name}.onnx.gz", model.SerializeToString(deterministic=True))


@torch.no_grad()
def main():
    warnings.filterwarnings("ignore")
    export = Export("sdxl", 17)
    family = FAMILIES["sdxl"]
    FAMILIES["sdxl"] = type(family)(family.build, TINY, family.inputs, call=family.call)
    model = build_small(export)
    for parameter in model.parameters():
        # Half of the bits are zero then, which the file is smaller for.
        parameter.copy_(parameter.bfloat16().float())
    denoiser, inputs = make_denoiser(export, model)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "model.onnx"))
        export_onnx(export, denoiser, inputs, path)
        write(path, "pair-plain")
        fuse(path, "unet")
        write(path, "pair-fused")


if __name__ == "__main__":
    main()
