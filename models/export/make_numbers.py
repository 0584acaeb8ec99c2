"""Writes the small goldens of `test/fixtures/goldens/`: `tokenizer.json` and `randn.json`.

    python models/export/make_numbers.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "test" / "fixtures" / "goldens"

PROMPTS = (
    "",
    " ",
    "a red cat",
    "A RED Cat On The BEACH",
    "a castle at night, oil painting, highly detailed, 8k",
    "  leading,   inner \t and trailing\nspace  ",
    "don't, it's, we're, I'll, you'd, I've, I'm",
    "hello!!! what?! (wow) [ok] {fine} <tag> a/b\\c",
    "35mm film 2025 1,000.50 3x4",
    "café naïve façade Über straße",
    "cafe\u0301 with a combining accent",
    "東京の夜景、油絵",
    "Привет, мир",
    "مرحبا بالعالم",
    "a cat 🐱 and a family 👨‍👩‍👧 and a flag 🇨🇭",
    "ﬁligree ½ ² Ⅳ ™ ① ﷺ",
    "non\u00a0breaking\u2003wide\u200bzero-width\u00adsoft",
    "<|startoftext|> inside <|endoftext|> text",
    "snake_case and kebab-case and CamelCase and a.dotted.name@example.com",
    ", ".join(f"a {colour} lighthouse by the window" for colour in ("red", "green", "blue", "white", "black") * 4),
)


def plain(values):
    """float32 values by their shortest decimals; other numbers as they are."""
    array = np.asarray(values)
    return [float(str(value)) if array.dtype == np.float32 else value.item() for value in array.reshape(-1)]


def tokenizer_goldens():
    tokenizer = CLIPTokenizer.from_pretrained(ROOT / "models" / "emoji-sd" / "tokenizer")
    padding = dict(padding="max_length", truncation=True)
    return [{"prompt": prompt, "input_ids": tokenizer(prompt, **padding).input_ids} for prompt in PROMPTS]


def randn_goldens():
    """37 is neither below 16 nor a multiple of it: PyTorch draws each of the three another way."""
    goldens = []
    for seed in (0, 42, 123456789, 2**40):
        for count in (4, 15, 16, 37, 64, 16384):
            values = torch.randn(count, generator=torch.Generator().manual_seed(seed))
            goldens.append({"seed": seed, "count": count, "first": plain(values[:32]), "last": plain(values[-8:])})
    return goldens


def write(name, value):
    path = GOLDENS / name
    path.write_text(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{name}: {path.stat().st_size} bytes")


def main():
    GOLDENS.mkdir(parents=True, exist_ok=True)
    write("tokenizer.json", tokenizer_goldens())
    write("randn.json", randn_goldens())


if __name__ == "__main__":
    main()
