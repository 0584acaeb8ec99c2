"""Writes what the model knows beside it, `models/emoji-sd/known.json`: things with their names, and the words of the captions.

The command line and the server read it to say which words of a prompt the model has never met.
"""

import json
import re
from pathlib import Path

from captions import COLOURED, PLAIN, all_captions, fill
from concepts import CONCEPTS

OUT = Path(__file__).parent.parent / "emoji-sd" / "known.json"


def things():
    for concept in CONCEPTS:
        example = fill(COLOURED[0] if concept.names[0] in concept.groups else PLAIN[0], concept.names[0], concept.colour)
        row = {"example": example, "names": list(concept.names)}
        if concept.colour:
            row["colour"] = concept.colour
        yield row | {"groups": list(concept.groups)} if concept.groups else row


words = sorted({word for caption in all_captions() for word in re.findall(r"[a-z]+", caption)})
lines = ",\n    ".join(json.dumps(thing) for thing in things())
OUT.write_text(f'{{\n  "things": [\n    {lines}\n  ],\n  "words": {json.dumps(words)}\n}}\n')
