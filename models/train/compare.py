"""Compares Tandem's pictures of the contact sheet with those of PyTorch's diffusers, from the same latents.

    node models/tools/contact-sheet.mjs models/docs/contact-sheet.png FOLDER/contact.bin
    python models/train/compare.py --work FOLDER
"""

import argparse
import re
import warnings
from pathlib import Path

import numpy as np
import torch

from trained import load_pipeline

TOOLS = Path(__file__).resolve().parents[1] / "tools"
STEPS, GUIDANCE, SIZE, LEAST = 10, 3.0, 64, 50


def contact_prompts():
    text = (TOOLS / "prompts.mjs").read_text()
    return int(re.search(r"CONTACT_SEED = (\d+)", text)[1]), re.findall(r"^  '(.*)',$", text, re.MULTILINE)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", required=True, type=Path)
    work = parser.parse_args().work
    warnings.filterwarnings("ignore")
    pipeline = load_pipeline(work)
    pipeline.set_progress_bar_config(disable=True)
    seed, prompts = contact_prompts()
    found = np.frombuffer((work / "contact.bin").read_bytes(), np.uint8).reshape(len(prompts), SIZE, SIZE, 3)
    decibels = []
    for prompt, picture in zip(prompts, found, strict=True):
        image = pipeline(prompt, height=SIZE, width=SIZE, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
                         generator=torch.Generator().manual_seed(seed)).images[0]
        error = np.square(np.asarray(image, float) - picture).mean()
        decibels.append(10 * np.log10(255**2 / error) if error else np.inf)
    print(f"Tandem against diffusers: lowest PSNR {min(decibels):.1f} dB over {len(decibels)} prompts.")
    if min(decibels) < LEAST:
        raise AssertionError(f"expected at least {LEAST} dB for every prompt")


if __name__ == "__main__":
    main()
