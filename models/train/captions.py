"""Captions: the names of a picture in many sentences, of which every tenth is held out of training.

A caption is held out by the CRC of its text, so that training and the figure in `models/docs` agree without a list.
"""

import zlib
from random import Random

from concepts import CONCEPTS, GROUPS

PLAIN = (
    "{a} {n}", "{n}", "the {n}", "a picture of {a} {n}", "picture of {a} {n}", "an image of {a} {n}", "a drawing of {a} {n}",
    "drawing of the {n}", "{a} {n} emoji", "{n} icon", "draw {a} {n}", "show me {a} {n}", "please draw the {n}", "one {n}",
    "i would like to see {a} {n}", "an emoji of {a} {n}", "{a} cute {n}", "this is {a} {n}", "{a} {n} on a white background",
    "a nice picture of {a} {n}", "{a} cartoon {n}", "an icon of {a} {n}", "{a} little {n}", "{n}, white background",
)
COLOURED = (
    "{ac} {c} {n}", "{c} {n}", "the {c} {n}", "{a} {n} that is {c}", "{n} in {c}", "{n}, {c}", "{c}, {n}", "the {n} is {c}",
    "a picture of {ac} {c} {n}", "an image of {ac} {c} {n}", "a drawing of {ac} {c} {n}", "draw {a} {n} in {c}",
    "draw {ac} {c} {n}", "show me {ac} {c} {n}", "{a} {n} which is {c}", "{ac} {c} {n} emoji", "{a} {n} of {c} colour",
    "{a} {n} coloured {c}", "{ac} {c} coloured {n}", "{ac} {c} {n} on a white background", "please draw the {c} {n}",
    "one {c} {n}", "an emoji of {ac} {c} {n}", "this {n} is {c}",
)
HELD_SHARE = 10
# Negative prompts of every kind are met by the empty caption.
DROPPED = ""


def article(words):
    if words.endswith("s") and not words.endswith("ss") and words not in ("cactus", "octopus") or words in ("fire", "cheese"):
        return "some"
    return "an" if words[0] in "aeiou" and not words.startswith(("uni", "one")) else "a"


def fill(template, name, colour=""):
    some = article(name) == "some"
    return template.format(n=name, c=colour, a=article(name), ac="some" if some else article(colour or name))


def is_held(caption):
    """Whether training never sees this sentence."""
    return zlib.crc32(caption.encode()) % HELD_SHARE == 0


def captions_of(concept):
    """Every sentence that means this picture and no other."""
    plain = () if concept.names[0] in concept.groups else tuple(
        fill(template, name) for name in concept.names for template in PLAIN)
    coloured = tuple(fill(t, name, concept.colour) for name in concept.names for t in COLOURED) if concept.colour else ()
    return plain + coloured


def group_captions(group):
    """Sentences that any picture of the group satisfies."""
    return tuple(fill(template, group) for template in PLAIN)


def all_captions():
    sentences = [caption for concept in CONCEPTS for caption in captions_of(concept)]
    return sentences + [caption for group in GROUPS for caption in group_captions(group)]


def training_captions():
    """Per concept: (its own sentences, those of its groups), held ones left out."""
    def kept(sentences):
        return tuple(sentence for sentence in sentences if not is_held(sentence))
    return [
        (kept(captions_of(c)), kept([s for group in c.groups for s in group_captions(group)])) for c in CONCEPTS
    ]


def held_prompts(count, seed):
    """`count` different held sentences with a seed each, spread evenly over the concepts."""
    random = Random(seed)
    pools = [[c for c in dict.fromkeys(captions_of(concept)) if is_held(c)] for concept in CONCEPTS]
    for pool in pools:
        random.shuffle(pool)
    chosen = []
    while len(chosen) < count and any(pools):
        for concept, pool in zip(CONCEPTS, pools, strict=True):
            if pool and len(chosen) < count:
                chosen.append({"prompt": pool.pop(), "seed": random.randrange(2**31), "concept": concept.key})
    return chosen
