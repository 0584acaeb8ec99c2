"""Trains CLIP-style tokenizers: the shipped model's on the captions of its pictures, tiny pipelines' on a corpus of their own.

CLIP's scheme (Radford et al. 2021; byte-level BPE with `</w>` at a word's end): the vocabulary is the 256 byte
symbols, the same with `</w>`, one entry a merge, then the two special tokens.
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from captions import all_captions

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
MAX_LENGTH = 32
MERGES = 700

# What CLIP's tokenizer splits text into before it merges.
WORD_PATTERN = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def byte_symbols():
    """The printable stand-in for each byte, in CLIP's order: printable Latin-1 first, then the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def dress(tokenizer):
    """Everything around the BPE: normalisation, splitting, the two special tokens, decoding."""
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def train_merges(corpus, count):
    """The merges in the order in which they were found."""
    tokenizer = dress(Tokenizer(BPE(end_of_word_suffix=WORD_END)))
    symbols = byte_symbols()
    trainer = BpeTrainer(
        vocab_size=2 * len(symbols) + count,
        initial_alphabet=symbols,
        end_of_word_suffix=WORD_END,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [tuple(merge) for merge in merges][:count]


def vocabulary(merges):
    symbols = byte_symbols()
    entries = [*symbols, *(symbol + WORD_END for symbol in symbols), *("".join(merge) for merge in merges), BEGIN, END]
    return {entry: index for index, entry in enumerate(dict.fromkeys(entries))}


def write_tokenizer(folder, corpus=None, merge_count=MERGES, max_length=MAX_LENGTH):
    """Writes the old files (`vocab.json`, `merges.txt`) and the new one (`tokenizer.json`). Returns the vocabulary.

    `corpus` is the sentences to train on; the shipped model's captions where absent.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    merges = train_merges(all_captions() if corpus is None else corpus, merge_count)
    vocab = vocabulary(merges)
    model = BPE(vocab=vocab, merges=merges, unk_token=END, continuing_subword_prefix="", end_of_word_suffix=WORD_END)
    tokenizer = dress(Tokenizer(model))
    tokenizer.add_special_tokens([BEGIN, END])
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, vocab[END]), (BEGIN, vocab[BEGIN]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "vocab.json", vocab)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
    write_json(folder / "special_tokens_map.json", special)
    settings = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": max_length}
    write_json(folder / "tokenizer_config.json", settings | special | {"tokenizer_class": "CLIPTokenizer"})
    return vocab


def write_json(path, value):
    Path(path).write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
