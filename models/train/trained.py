"""The trained model as a diffusers pipeline, from the checkpoints of `train_autoencoder.py` and `train_diffusion.py`."""

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from parts import new_scheduler, new_text_encoder, new_unet, new_vae


def load_pipeline(work):
    """The averaged weights, on one thread: sums over several round another way with another number of them."""
    torch.set_num_threads(1)
    saved = torch.load(work / "diffusion.pt")
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    unet, text_encoder, vae = new_unet(), new_text_encoder(tokenizer.get_vocab()), new_vae()
    vae.load_state_dict(torch.load(work / "autoencoder.pt")["vae"])
    vae.register_to_config(scaling_factor=saved["scaling_factor"])
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    with torch.no_grad():
        for parameter, average in zip(parameters, saved["averages"], strict=True):
            parameter.copy_(average)
    for part in (unet, text_encoder, vae):
        part.eval().requires_grad_(False)
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
