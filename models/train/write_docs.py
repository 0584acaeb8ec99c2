"""Writes to `models/docs/` what the shipped figures are made from, and how the training went: training pictures, held prompts,
loss curve, and the sheet of samples at four moments.

    python models/train/write_docs.py --emoji PACKAGE --work FOLDER
"""

import argparse
import json
from pathlib import Path

from PIL import Image

from captions import held_prompts
from concepts import CONCEPTS
from pictures import concept_pictures
from train_autoencoder import save_sheet

DOCS = Path(__file__).resolve().parents[1] / "docs"
COUNT, SEED = 200, 2025
WIDTH, HEIGHT, MARGIN = 640, 280, 50


def read_log(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def curve(points, top):
    """The points as an SVG path; steps to the right, loss upwards from 0."""
    last = max(step for step, _ in points)
    at = [(MARGIN + (WIDTH - 2 * MARGIN) * step / last, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * min(1, loss / top))
          for step, loss in points]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)


def loss_curve(points):
    last, top = max(step for step, _ in points), 0.2
    text = 'font-family="sans-serif" font-size="12" fill="#555"'
    ticks = "".join(
        f'<text x="{MARGIN - 8}" y="{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * part + 4:.0f}" text-anchor="end" {text}>{top * part:.2f}</text>'
        for part in (0, 0.25, 0.5, 0.75, 1))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>{ticks}'
            f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" stroke="#999"/>'
            f'<path d="{curve(points, top)}" fill="none" stroke="#1a73e8" stroke-width="1.5"/>'
            f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 18}" text-anchor="end" {text}>step {last}</text>'
            f'<text x="{MARGIN}" y="{MARGIN - 14}" {text}>weighted loss of the denoiser, mean of 50 steps</text></svg>\n')


def samples_over_time(work):
    """The sheets of samples of four moments below each other: the first, the last, and two at even shares of the steps between."""
    sheets = sorted(work.glob("samples-*.png"))
    steps = [int(sheet.stem.split("-")[1]) for sheet in sheets]
    wanted = [steps[0] + (steps[-1] - steps[0]) * part / 3 for part in range(4)]
    chosen = [sheets[min(range(len(steps)), key=lambda i: abs(steps[i] - step))] for step in wanted]
    images = [Image.open(sheet) for sheet in chosen]
    width, height = images[0].size
    strip = Image.new("RGB", (width, (height + 8) * len(images) - 8), "white")
    for index, image in enumerate(images):
        strip.paste(image, (0, index * (height + 8)))
    return strip, [sheet.stem for sheet in chosen]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--emoji", required=True)
    parser.add_argument("--work", required=True, type=Path)
    arguments = parser.parse_args()
    DOCS.mkdir(exist_ok=True)
    pictures = concept_pictures(arguments.emoji)
    save_sheet(pictures.flatten(0, 1), DOCS / "training-pictures.png", columns=pictures.shape[1])
    with Image.open(DOCS / "training-pictures.png") as sheet:
        sheet.save(DOCS / "training-pictures.png", optimize=True)
    held = {"concepts": [concept.key for concept in CONCEPTS], "prompts": held_prompts(COUNT, SEED)}
    (DOCS / "held-prompts.json").write_text(json.dumps(held, indent=1) + "\n")
    points = {entry["step"]: entry["loss"] for entry in read_log(arguments.work / "diffusion.jsonl")}
    (DOCS / "loss.svg").write_text(loss_curve(sorted(points.items())))
    strip, names = samples_over_time(arguments.work)
    strip.save(DOCS / "training-samples.png", optimize=True)
    print("training-samples.png:", ", ".join(names))


if __name__ == "__main__":
    main()
