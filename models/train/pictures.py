"""The training pictures: emoji on white, each in a few fixed poses.

Unpack the npm package `emoji-datasource-google` (see README.md) and give its folder.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from concepts import CONCEPTS, EXTRA_FILES

SIZE = 64
# (scale, degrees, shift right, shift down in pixels); each also mirrored.
POSES = ((0.94, 0, 0, 0), (0.84, 0, 3, -2))
# More of them make a better autoencoder.
MORE_POSES = ((0.90, 9, -1, 1), (0.88, -9, 1, 2))
WHITE = (255, 255, 255)


def load(package, file):
    """The emoji as RGBA of 64 by 64 pixels."""
    return Image.open(Path(package, "img", "google", "64", f"{file}.png")).convert("RGBA")


def pose(emoji, scale, degrees, right, down, mirrored):
    """The emoji on white, turned about its middle. Works at four times the size so that edges stay smooth."""
    side = round(SIZE * scale)
    large = emoji.resize((4 * SIZE, 4 * SIZE), Image.Resampling.BICUBIC).rotate(degrees, Image.Resampling.BICUBIC)
    small = large.resize((side, side), Image.Resampling.LANCZOS)
    if mirrored:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = Image.new("RGB", (SIZE, SIZE), WHITE)
    corner = (SIZE - side) // 2
    canvas.paste(small, (corner + right, corner + down), small)
    return canvas


def posed(package, files, poses):
    """[file, pose, 3, 64, 64] of -1 to 1; every pose is followed by its mirror image."""
    emojis = [load(package, file) for file in files]
    pictures = [[np.asarray(pose(e, *how, mirrored)) for how in poses for mirrored in (False, True)] for e in emojis]
    return torch.from_numpy(np.array(pictures)).permute(0, 1, 4, 2, 3).float() / 127.5 - 1


def concept_pictures(package):
    """What the denoiser learns: [concept, pose, 3, 64, 64]."""
    return posed(package, [concept.file for concept in CONCEPTS], POSES)


def autoencoder_pictures(package):
    """What the autoencoder learns: [file, pose, 3, 64, 64]."""
    return posed(package, [concept.file for concept in CONCEPTS] + list(EXTRA_FILES), POSES + MORE_POSES)
