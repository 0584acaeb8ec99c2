"""Z-Image with rotations in real numbers: ONNX has no complex ones, so no exporter takes diffusers' model as it is.

    python models/export/zimage.py

A rotation of the pair (a, b) by the angle t is (a cos t - b sin t, a sin t + b cos t): what the complex product
(a + bi)(cos t + i sin t) says. Run as a script, it proves that the model gives what diffusers' own gives.
"""

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers import transformer_z_image
from diffusers.models.transformers.transformer_z_image import RopeEmbedder, ZImageTransformer2DModel


class RealRopeEmbedder(RopeEmbedder):
    """Cosines and sines `[tokens, head size / 2, 2]` where the original has complex numbers `[tokens, head size / 2]`."""

    def __init__(self, original):
        super().__init__(original.theta, original.axes_dims, original.axes_lens)
        tables = self.precompute_freqs_cis(self.axes_dims, self.axes_lens, theta=self.theta)
        self.tables = [torch.view_as_real(table) for table in tables]

    def __call__(self, ids):
        return torch.cat([table[ids[:, axis].long()] for axis, table in enumerate(self.tables)], dim=1)


def rotate(x, cos_sin):
    """Rotates neighbouring pairs of `x` `[batch, tokens, heads, size]` by the angles of `cos_sin` `[batch, tokens, size / 2, 2]`."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos_sin.unsqueeze(2).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(3).type_as(x)


class RealRotationProcessor:
    """Z-Image's attention with `rotate` in place of complex products."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None):
        query, key, value = (
            project(hidden_states).unflatten(-1, (attn.heads, -1)) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = (norm(x) if norm else x for norm, x in ((attn.norm_q, query), (attn.norm_k, key)))
        query, key = rotate(query, freqs_cis), rotate(key, freqs_cis)
        mask = attention_mask[:, None, None, :] if attention_mask is not None else None
        attended = dispatch_attention_fn(query, key, value, attn_mask=mask)
        return attn.to_out[0](attended.flatten(2, 3).to(value.dtype))


def stack_equal(sequences, batch_first, padding_value):
    """What `pad_sequence`, which TorchScript's exporter does not know, does for sequences of one length."""
    if not batch_first or len({len(sequence) for sequence in sequences}) != 1:
        raise ValueError("expected captions of one length and pictures of one size")
    return torch.stack(sequences)


def make_exportable(model):
    """Changes a ZImageTransformer2DModel in place; returns it. It then takes captions of one length only."""
    transformer_z_image.pad_sequence = stack_equal
    model.rope_embedder = RealRopeEmbedder(model.rope_embedder)
    for block in (*model.noise_refiner, *model.context_refiner, *model.layers):
        block.attention.set_processor(RealRotationProcessor())
    return model


@torch.no_grad()
def prove():
    torch.manual_seed(0)
    config = dict(dim=96, n_layers=2, n_refiner_layers=1, n_heads=6, n_kv_heads=6, cap_feat_dim=64, axes_dims=[4, 6, 6],
                  axes_lens=[128, 64, 64])
    model = ZImageTransformer2DModel(**config).eval()
    pictures = list(torch.randn(2, 16, 1, 12, 16))
    captions = list(torch.randn(2, 37, 64))
    step = torch.tensor([0.4, 0.7])
    expected = torch.stack(model(pictures, step, captions, return_dict=False)[0])
    found = torch.stack(make_exportable(model)(pictures, step, captions, return_dict=False)[0])
    difference = float((found - expected).abs().max() / expected.abs().max())
    print(f"real rotations against complex ones: largest relative difference {difference:.1e}")
    if not difference < 1e-5:
        raise AssertionError(f"expected a relative difference below 1e-5, found {difference}")


if __name__ == "__main__":
    prove()
