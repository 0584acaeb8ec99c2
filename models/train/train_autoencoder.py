"""Trains the autoencoder on crops of the training pictures.

    python models/train/train_autoencoder.py --emoji PACKAGE --work FOLDER [--steps N] [--threads N]

Stops after `--steps`; started again, it goes on where the last checkpoint is. Loss: L1, L1 of the differences between
neighbouring pixels (edges), and a slight pull of the latents to a standard normal.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from parts import new_vae
from pictures import autoencoder_pictures

CROP, BATCH, PEAK_LR, SEED = 32, 16, 3e-3, 1
KL_WEIGHT = 1e-6
# Noise on the latents while training: the decoder must forgive what the denoiser gets slightly wrong.
LATENT_NOISE = 0.05


def random_crops(pictures, generator):
    """[BATCH, 3, CROP, CROP]; a crop begins on the latents' grid."""
    chosen = torch.randint(len(pictures), (BATCH,), generator=generator)
    corners = 4 * torch.randint((pictures.shape[-1] - CROP) // 4 + 1, (BATCH, 2), generator=generator)
    crops = [pictures[i, :, y:y + CROP, x:x + CROP] for i, (y, x) in zip(chosen.tolist(), corners.tolist(), strict=True)]
    return torch.stack(crops)


def edges(pictures):
    return pictures.diff(dim=-1), pictures.diff(dim=-2)


def loss_of(vae, crops):
    posterior = vae.encode(crops).latent_dist
    latents = posterior.sample()
    spread = latents.detach().std(dim=(0, 2, 3), keepdim=True)
    painted = vae.decode(latents + LATENT_NOISE * spread * torch.randn_like(latents)).sample
    edge = sum(F.l1_loss(a, b) for a, b in zip(edges(painted), edges(crops), strict=True))
    return F.l1_loss(painted, crops) + edge + KL_WEIGHT * posterior.kl().mean()


@torch.no_grad()
def psnr(vae, pictures):
    """dB over whole pictures, of latents without noise."""
    painted = vae.decode(vae.encode(pictures).latent_dist.mode()).sample.clamp(-1, 1)
    return float(10 * torch.log10(4 / F.mse_loss(painted, pictures))), painted


def save_sheet(pictures, path, columns=16):
    rows = [torch.cat(list(pictures[i:i + columns]), dim=2) for i in range(0, len(pictures) - columns + 1, columns)]
    grid = torch.cat(rows, dim=1)
    Image.fromarray(((grid.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()).save(path)


def learning_rate(step, steps):
    """Rises for 100 steps, holds, and falls to zero over the last 40 %: the total may change between two starts."""
    return PEAK_LR * min(1, (step + 1) / 100, (steps - step) / (0.4 * steps))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--emoji", required=True)
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    pictures = autoencoder_pictures(arguments.emoji).flatten(0, 1)
    vae = new_vae().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_LR, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint, step, began = arguments.work / "autoencoder.pt", 0, time.time()
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        vae.load_state_dict(saved["vae"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
        generator.manual_seed(SEED + step)
    log = (arguments.work / "autoencoder.jsonl").open("a", buffering=1)
    while step < arguments.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps)
        loss = loss_of(vae, random_crops(pictures, generator).to(memory_format=torch.channels_last))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            log.write(json.dumps({"step": step, "loss": round(loss.item(), 5), "cpu_s": round(time.process_time()),
                                  "wall_s": round(time.time() - began)}) + "\n")
        if step % 250 == 0 or step == arguments.steps:
            quality, painted = psnr(vae, pictures[::8][:48])
            log.write(json.dumps({"step": step, "psnr_db": round(quality, 2)}) + "\n")
            save_sheet(painted, arguments.work / "autoencoder.png")
            torch.save({"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, checkpoint)


if __name__ == "__main__":
    main()
