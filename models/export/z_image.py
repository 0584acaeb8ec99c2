"""Z-Image's transformer with real numbers, so that it can be exported.

diffusers' ZImageTransformer2DModel rotates queries and keys by complex numbers, which ONNX has not, and takes lists of
captions of any length. A rotation of the pair (a, b) by the angle t is (a cos t - b sin t, a sin t + b cos t): what the
complex product (a + bi)(cos t + i sin t) says. Two models come of that:

- `make_exportable` leaves diffusers' code as it is but for the rotations, and takes captions of one length only.
- `RealZImage` has fixed sizes and a batch, and captions padded to one length with a mask:

    hidden_states           [batch, channels, height, width]
    timestep                [batch], (1000 - t) / 1000
    encoder_hidden_states   [batch, sequence, width], sequence a multiple of 32
    encoder_attention_mask  [batch, sequence], whole numbers: 1 for a caption's tokens, then 0

What the reference does with a caption of L tokens is kept: it is padded to the next multiple of 32 with a learned token
that is attended to like the others, and the picture's first position is the one after that. What lies beyond is masked.

    python models/export/z_image.py        proves both equal to diffusers
"""

import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers import transformer_z_image
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF, RopeEmbedder

MASKED = -1e9


def rotation_tables(axes_dims, axes_lens, theta):
    """Per axis the cosines and sines of every position: [positions, dims / 2]."""
    tables = []
    for dims, positions in zip(axes_dims, axes_lens, strict=True):
        frequencies = 1.0 / (theta ** (torch.arange(0, dims, 2, dtype=torch.float64) / dims))
        angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies).float()
        tables.append((angles.cos(), angles.sin()))
    return tables


def pairs(values):
    """[batch, tokens, heads, 2 n] as two of [batch, tokens, heads, n]: neighbours are a complex number's two parts."""
    return values.unflatten(-1, (-1, 2)).unbind(-1)


def rotate(parts, cosines, sines):
    """`pairs` by angles [batch, tokens, 1, n], to [batch, tokens, heads, 2 n]."""
    real, imaginary = parts
    return torch.stack([real * cosines - imaginary * sines, real * sines + imaginary * cosines], dim=-1).flatten(3)


class RealRopeEmbedder(RopeEmbedder):
    """Cosines and sines `[tokens, head size / 2, 2]` where the original has complex numbers `[tokens, head size / 2]`."""

    def __init__(self, original):
        super().__init__(original.theta, original.axes_dims, original.axes_lens)
        tables = self.precompute_freqs_cis(self.axes_dims, self.axes_lens, theta=self.theta)
        self.tables = [torch.view_as_real(table) for table in tables]

    def __call__(self, ids):
        return torch.cat([table[ids[:, axis].long()] for axis, table in enumerate(self.tables)], dim=1)


class RealRotationProcessor:
    """Z-Image's attention with `rotate` in place of complex products."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None):
        query, key, value = (
            project(hidden_states).unflatten(-1, (attn.heads, -1)) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        query, key = (norm(x) if norm else x for norm, x in ((attn.norm_q, query), (attn.norm_k, key)))
        query, key = (rotate(pairs(x.float()), *freqs_cis.unsqueeze(2).unbind(-1)).type_as(x) for x in (query, key))
        mask = attention_mask[:, None, None, :] if attention_mask is not None else None
        attended = dispatch_attention_fn(query, key, value, attn_mask=mask)
        return attn.to_out[0](attended.flatten(2, 3).to(value.dtype))


def stack_equal(sequences, batch_first, padding_value):
    """What `pad_sequence`, which TorchScript's exporter does not know, does for sequences of one length."""
    if not batch_first or len({len(sequence) for sequence in sequences}) != 1:
        raise ValueError("expected captions of one length and pictures of one size")
    return torch.stack(sequences)


def make_exportable(model):
    """Changes a ZImageTransformer2DModel in place, and diffusers' module with it; returns the model."""
    transformer_z_image.pad_sequence = stack_equal
    model.rope_embedder = RealRopeEmbedder(model.rope_embedder)
    for block in (*model.noise_refiner, *model.context_refiner, *model.layers):
        block.attention.set_processor(RealRotationProcessor())
    return model


def rotate_heads(values, cosines, sines):
    """[batch, tokens, heads, 2 n] by [batch, tokens, n]."""
    return rotate(pairs(values), cosines.unsqueeze(2), sines.unsqueeze(2))


def attend(attention, values, bias, rotation):
    heads = (attention.heads, -1)
    query = rotate_heads(attention.norm_q(attention.to_q(values).unflatten(-1, heads)), *rotation)
    key = rotate_heads(attention.norm_k(attention.to_k(values).unflatten(-1, heads)), *rotation)
    value = attention.to_v(values).unflatten(-1, heads)
    scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1) * query.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    mixed = torch.softmax(scores, dim=-1) @ value.transpose(1, 2)
    return attention.to_out[0](mixed.transpose(1, 2).flatten(2))


def run_block(block, values, bias, rotation, embedding=None):
    if embedding is None:
        values = values + block.attention_norm2(attend(block.attention, block.attention_norm1(values), bias, rotation))
        return values + block.ffn_norm2(block.feed_forward(block.ffn_norm1(values)))
    scale_attention, gate_attention, scale_forward, gate_forward = block.adaLN_modulation(embedding).unsqueeze(1).chunk(4, dim=2)
    mixed = attend(block.attention, block.attention_norm1(values) * (1 + scale_attention), bias, rotation)
    values = values + gate_attention.tanh() * block.attention_norm2(mixed)
    forward = block.feed_forward(block.ffn_norm1(values) * (1 + scale_forward))
    return values + gate_forward.tanh() * block.ffn_norm2(forward)


class RealZImage(torch.nn.Module):
    """Shares the weights of a ZImageTransformer2DModel."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.patch = model.all_patch_size[0]
        key = f"{self.patch}-{model.all_f_patch_size[0]}"
        self.embed, self.final = model.all_x_embedder[key], model.all_final_layer[key]
        for axis, tables in enumerate(rotation_tables(model.axes_dims, model.axes_lens, model.rope_theta)):
            for name, table in zip(("cosines", "sines"), tables, strict=True):
                self.register_buffer(f"{name}_{axis}", table)

    def rotation(self, *positions):
        """From positions per axis, each [batch, tokens], to a pair of [batch, tokens, head dim / 2]."""
        return tuple(
            torch.cat([getattr(self, f"{name}_{axis}")[index] for axis, index in enumerate(positions)], dim=-1)
            for name in ("cosines", "sines")
        )

    def caption(self, states, mask, padded):
        """The caption's tokens with the learned padding, what keeps others from looking past it, and its positions."""
        index = torch.arange(states.shape[1]).unsqueeze(0)
        tokens = torch.where(mask.bool().unsqueeze(-1), self.model.cap_embedder(states), self.model.cap_pad_token)
        bias = (index >= padded).float()[:, None, None, :] * MASKED
        first = (index + 1).expand_as(mask)
        return tokens, bias, self.rotation(first, first * 0, first * 0)

    def picture(self, latents, padded):
        """The picture's patches in rows, padded to a multiple of 32 with the learned token, and their positions."""
        batch, channels, height, width = latents.shape
        rows, columns, patch = height // self.patch, width // self.patch, self.patch
        patches = latents.view(batch, channels, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
        tokens = self.embed(patches.reshape(batch, rows * columns, -1))
        padding = (-(rows * columns)) % SEQ_MULTI_OF
        down = torch.arange(rows).repeat_interleave(columns).expand(batch, -1)
        across = torch.arange(columns).repeat(rows).expand(batch, -1)
        along = (padded + 1).expand(batch, rows * columns)
        if padding > 0:
            tokens = torch.cat([tokens, self.model.x_pad_token.expand(batch, padding, -1)], dim=1)
            origin = torch.zeros(batch, padding, dtype=torch.int64)
            along, down, across = (torch.cat([axis, origin], dim=1) for axis in (along, down, across))
        return tokens, self.rotation(along, down, across)

    def forward(self, hidden_states, timestep, encoder_hidden_states, encoder_attention_mask):
        model, patch = self.model, self.patch
        batch, channels, height, width = hidden_states.shape
        lengths = encoder_attention_mask.sum(dim=1, keepdim=True)
        padded = (lengths + SEQ_MULTI_OF - 1) // SEQ_MULTI_OF * SEQ_MULTI_OF
        embedding = model.t_embedder(timestep * model.t_scale)

        picture, picture_rotation = self.picture(hidden_states, padded)
        for block in model.noise_refiner:
            picture = run_block(block, picture, None, picture_rotation, embedding)
        caption, bias, caption_rotation = self.caption(encoder_hidden_states, encoder_attention_mask, padded)
        for block in model.context_refiner:
            caption = run_block(block, caption, bias, caption_rotation)

        both = torch.cat([picture, caption], dim=1)
        rotation = tuple(torch.cat(pair, dim=1) for pair in zip(picture_rotation, caption_rotation, strict=True))
        seen = torch.zeros(batch, 1, 1, picture.shape[1])
        bias = torch.cat([seen, bias], dim=-1)
        for block in model.layers:
            both = run_block(block, both, bias, rotation, embedding)
        rows, columns = height // patch, width // patch
        patches = self.final(both, c=embedding)[:, : rows * columns]
        return (
            patches.view(batch, rows, columns, patch, patch, channels)
            .permute(0, 5, 1, 3, 2, 4)
            .reshape(batch, channels, height, width)
        )


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def check_equal(what, difference):
    if not difference < 1e-5:
        raise AssertionError(f"{what}: expected to equal diffusers', found a relative difference of {difference:.1e}")
    return difference


@torch.no_grad()
def prove(model, sizes=((8, 12), (16, 16)), lengths=(5, 40), sequence=64):
    """RealZImage's largest difference from diffusers, relative to the largest value, over sizes and pairs of caption lengths."""
    worst = 0.0
    generator = torch.Generator().manual_seed(3)
    for height, width in sizes:
        latents = torch.randn(len(lengths), model.in_channels, height, width, generator=generator)
        states = torch.randn(len(lengths), sequence, model.config.cap_feat_dim, generator=generator)
        timestep = torch.tensor([0.25, 0.25])
        mask = (torch.arange(sequence) < torch.tensor(lengths)[:, None]).long()
        found = RealZImage(model)(latents, timestep, states, mask)
        captions = [one[:length] for one, length in zip(states, lengths, strict=True)]
        expected = torch.stack(model(list(latents.unsqueeze(2)), timestep, captions, return_dict=False)[0]).squeeze(2)
        worst = max(worst, relative(found, expected))
    return check_equal("RealZImage", worst)


@torch.no_grad()
def prove_exportable(model):
    """The same of `make_exportable`, for captions of one length. Changes the model."""
    pictures = list(torch.randn(2, model.in_channels, 1, 12, 16))
    captions = list(torch.randn(2, 37, model.config.cap_feat_dim))
    step = torch.tensor([0.4, 0.7])
    expected = torch.stack(model(pictures, step, captions, return_dict=False)[0])
    found = torch.stack(make_exportable(model)(pictures, step, captions, return_dict=False)[0])
    return check_equal("make_exportable", relative(found, expected))


def main():
    torch.manual_seed(0)
    model = ZImageTransformer2DModel(
        in_channels=4, dim=48, n_layers=2, n_refiner_layers=1, n_heads=4, n_kv_heads=4, cap_feat_dim=40,
        axes_dims=[4, 4, 4], axes_lens=[256, 32, 32],
    ).eval()  # fmt: skip
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    print(f"RealZImage: largest relative difference {prove(model):.1e}")
    print(f"make_exportable: largest relative difference {prove_exportable(model):.1e}")


if __name__ == "__main__":
    main()
