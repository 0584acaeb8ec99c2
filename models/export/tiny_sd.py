"""Builds the sample model in PyTorch: Stable Diffusion's parts, a thousandth of its size, with seeded random weights.

Nothing here is trained. Two things make its pictures more than flat grey: the UNet's last convolution is fitted by
least squares so that it roughly removes noise from soft blobs, and the VAE's last convolution is scaled to full contrast.
"""

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tiny_tokenizer import BEGIN, END, MAX_LENGTH

SEED = 20250
TEXT_WIDTH = 48
LATENT_SIZE = 32
PROMPTS = ("a red cat on the beach", "a castle at night, oil painting", "the robot in the snow, blurry", "")

# Widths, groups and heads that 2, 3 and 4 divide.
UNET = dict(
    sample_size=LATENT_SIZE,
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    block_out_channels=(24, 48, 60),
    layers_per_block=1,
    norm_num_groups=12,
    cross_attention_dim=TEXT_WIDTH,
    attention_head_dim=12,
)

VAE = dict(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(16, 16, 32, 32),
    layers_per_block=1,
    norm_num_groups=8,
    latent_channels=4,
    sample_size=8 * LATENT_SIZE,
    scaling_factor=0.18215,
)

# Stable Diffusion 1.5's noise schedule.
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
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
        # Random embeddings of the usual 0.02 would make all prompts alike.
        initializer_factor=10.0,
    )


def vary_norms(module):
    """Moves norm scales off one and norm biases off zero, so that leaving one out shows in the picture."""
    if isinstance(module, (torch.nn.GroupNorm, torch.nn.LayerNorm)):
        torch.nn.init.normal_(module.weight, 1.0, 0.1)
        torch.nn.init.normal_(module.bias, 0.0, 0.05)


def strengthen_text(unet, factor=4.0):
    """Makes the prompt matter: untrained cross-attention adds too little for a picture to change with its prompt."""
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            for projection in (module.to_q, module.to_k, module.to_v):
                projection.weight.mul_(factor)


def soft_blobs(count, generator):
    """Latents to remove noise from: [count, 4, 32, 32], smooth, of mean 0 and standard deviation 1."""
    coarse = torch.randn(count, 4, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(LATENT_SIZE, LATENT_SIZE), mode="bicubic")
    return smooth / smooth.std(dim=(2, 3), keepdim=True)


def fit_last_convolution(unet, text, generator, count=96):
    """Least squares of the noise on what the last convolution sees, over blobs at all noise levels."""
    scheduler = DDIMScheduler(**SCHEDULE)
    noise = torch.randn(count, 4, LATENT_SIZE, LATENT_SIZE, generator=generator)
    timesteps = torch.linspace(0, scheduler.config.num_train_timesteps - 1, count).long()
    noisy = scheduler.add_noise(soft_blobs(count, generator), noise, timesteps)
    seen = []
    hook = unet.conv_out.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    unet(noisy, timesteps, text[torch.arange(count) % len(text)])
    hook.remove()
    patches = torch.nn.functional.unfold(seen[0], kernel_size=3, padding=1)
    rows = patches.transpose(1, 2).reshape(-1, patches.shape[1]).double()
    rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
    targets = noise.permute(0, 2, 3, 1).reshape(-1, 4).double()
    ridge = 1e-3 * len(rows) * torch.eye(rows.shape[1], dtype=rows.dtype)
    solution = torch.linalg.solve(rows.T @ rows + ridge, rows.T @ targets).float()
    unet.conv_out.weight.copy_(solution[:-1].T.reshape(unet.conv_out.weight.shape))
    unet.conv_out.bias.copy_(solution[-1])


def raise_contrast(vae, generator, spread=0.45):
    """Scales the last convolution so that each colour has mean 0 and this standard deviation in a picture of -1 to 1."""
    pictures = vae.decode(soft_blobs(8, generator) / vae.config.scaling_factor).sample
    scale = spread / pictures.std(dim=(0, 2, 3))
    vae.decoder.conv_out.weight.mul_(scale[:, None, None, None])
    vae.decoder.conv_out.bias.sub_(pictures.mean(dim=(0, 2, 3))).mul_(scale)


def encode(tokenizer, text_encoder, prompts):
    """[prompt, 77, width]"""
    tokens = tokenizer(list(prompts), padding="max_length", max_length=MAX_LENGTH, truncation=True, return_tensors="pt")
    return text_encoder(tokens.input_ids).last_hidden_state


@torch.no_grad()
def build_pipeline(tokenizer_folder):
    """The whole sample model around the tokenizer of this folder. Always the same weights. Leaves PyTorch with one thread."""
    # Sums over several threads round another way with another number of them.
    torch.set_num_threads(1)
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(SEED)
    text_encoder = CLIPTextModel(text_config(tokenizer.get_vocab())).eval()
    unet = UNet2DConditionModel(**UNET).eval()
    vae = AutoencoderKL(**VAE).eval()
    for part in (text_encoder, unet, vae):
        part.requires_grad_(False).apply(vary_norms)
    strengthen_text(unet)
    generator = torch.Generator().manual_seed(SEED)
    fit_last_convolution(unet, encode(tokenizer, text_encoder, PROMPTS), generator)
    raise_contrast(vae, generator)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
