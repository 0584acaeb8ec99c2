"""Small text encoders of the kinds that pipelines have, with random weights, from transformers."""

import torch
from transformers import CLIPTextConfig, CLIPTextModel, Qwen3Config, Qwen3Model, T5Config, T5EncoderModel

TOKENS = 12


def build_clip():
    return CLIPTextModel(
        CLIPTextConfig(vocab_size=200, hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=6,
                       max_position_embeddings=TOKENS, attn_implementation="eager")
    )


def build_t5():
    return T5EncoderModel(T5Config(vocab_size=200, d_model=96, d_kv=16, d_ff=192, num_layers=2, num_heads=6,
                                   feed_forward_proj="gated-gelu"))


def build_qwen3():
    """Grouped queries: 6 query heads share 3 key heads."""
    return Qwen3Model(
        Qwen3Config(vocab_size=200, hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=6,
                    num_key_value_heads=3, head_dim=16, max_position_embeddings=64, attn_implementation="sdpa")
    )


def text_inputs(config, sizes):
    return {"input_ids": torch.randint(3, 200, (sizes.batch, TOKENS))}


def encode(model, input_ids):
    # Without a cache, whose class no exporter knows.
    cache = {"use_cache": False} if model.config.model_type == "qwen3" else {}
    return model(input_ids, return_dict=True, **cache).last_hidden_state
