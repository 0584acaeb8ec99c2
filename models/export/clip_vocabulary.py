"""A tokenizer of CLIP's real size and scheme: 49,408 entries, made by rule, for the real one is not ours to ship.

Its merges are those of the tiny pipelines' corpus, then all pairs of letters, within a word and at its end, then all triples, and
as many fours as are missing.
"""

import itertools
import string

from tiny_tokenizer import BEGIN, END, MAX_LENGTH, MERGES, corpus  # it finds the folder of the next one
from clip_tokenizer import WORD_END, byte_symbols, train_merges, vocabulary, write_json  # isort: skip

ENTRIES = 49408
LETTERS = string.ascii_lowercase


def fours():
    for pair, other in itertools.product(itertools.product(LETTERS, repeat=2), repeat=2):
        yield "".join(pair), "".join(other)


def by_rule():
    """Merges in an order in which both sides of each are there before it."""
    for left, right in itertools.product(LETTERS, repeat=2):
        yield left, right
        yield left, right + WORD_END
    for first, second, third in itertools.product(LETTERS, repeat=3):
        yield first + second, third
        yield first + second, third + WORD_END
    yield from fours()


def clip_merges():
    count = ENTRIES - 2 * len(byte_symbols()) - 2
    merges = {"".join(merge): merge for merge in train_merges(corpus(), MERGES)}
    for merge in by_rule():
        if len(merges) == count:
            break
        merges.setdefault("".join(merge), merge)
    return list(merges.values())


def write_clip(folder, pad_token=END):
    """Writes `vocab.json`, `merges.txt` and the two configs, as transformers does."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = clip_merges()
    vocab = vocabulary(merges)
    assert len(vocab) == ENTRIES
    write_json(folder / "vocab.json", vocab)
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": pad_token}
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", special | {"model_max_length": MAX_LENGTH, "tokenizer_class": "CLIPTokenizer"})
