"""The model's parts and sizes, in diffusers' and transformers' own classes."""

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from clip_tokenizer import BEGIN, END, MAX_LENGTH

TEXT_WIDTH = 96
LATENT_SIZE = 16

# Widths, groups and heads that 2, 3 and 4 divide. Attention at 8x8 and in the middle, at 4x4.
UNET = dict(
    sample_size=LATENT_SIZE,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    block_out_channels=(36, 72, 120),
    layers_per_block=1,
    norm_num_groups=12,
    cross_attention_dim=TEXT_WIDTH,
    attention_head_dim=12,
)

# Without attention, it works on crops as on whole pictures.
VAE = dict(
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    block_out_channels=(16, 24, 48),
    layers_per_block=1,
    norm_num_groups=8,
    latent_channels=4,
    sample_size=4 * LATENT_SIZE,
    mid_block_add_attention=False,
)

# The last timestep is pure noise, so that a white background comes out white (arXiv 2305.08891).
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=True,
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
)


def text_config(vocab):
    return CLIPTextConfig(
        vocab_size=len(vocab),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=vocab[BEGIN],
        eos_token_id=vocab[END],
        pad_token_id=vocab[END],
        # Small tables learn faster from embeddings that are not almost equal.
        initializer_factor=5.0,
    )


def new_vae():
    return AutoencoderKL(**VAE)


def new_unet():
    return UNet2DConditionModel(**UNET)


def new_text_encoder(vocab):
    return CLIPTextModel(text_config(vocab))


def new_scheduler():
    return DDIMScheduler(**SCHEDULE)
