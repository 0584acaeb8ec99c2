"""The CLIP-style tokenizer of tiny pipelines, trained on a little corpus that is made up here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
import clip_tokenizer  # noqa: E402
from clip_tokenizer import BEGIN, END, write_json  # noqa: E402, F401

MAX_LENGTH = 77
MERGES = 384

SUBJECTS = ("cat", "dog", "horse", "robot", "castle", "mountain", "forest", "river", "lighthouse", "teapot", "bicycle",
            "astronaut", "dragon", "garden", "bridge", "train", "ship", "owl", "fox", "city")
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white", "golden", "silver", "pink", "grey")
PLACES = ("on the beach", "in the snow", "at night", "under water", "in a valley", "on a table", "by the window",
          "in the rain", "on the moon", "in the morning light")
STYLES = ("oil painting", "watercolor", "photograph", "pencil sketch", "digital art", "highly detailed", "sharp focus",
          "cinematic lighting", "low quality", "blurry", "8k", "35mm film", "pixel art", "a portrait of")


def corpus():
    for subject in SUBJECTS:
        for colour in COLOURS:
            yield f"a {colour} {subject}"
        for place in PLACES:
            yield f"the {subject} {place}"
        for style in STYLES:
            yield f"{style}, {subject}"


def write_tokenizer(folder):
    """Writes the files that transformers and Tandem read. Returns the vocabulary."""
    return clip_tokenizer.write_tokenizer(folder, corpus(), MERGES, MAX_LENGTH)
