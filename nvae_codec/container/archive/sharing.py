"""One adaptation for all segments of an archive, chosen from a sample of its images before any is coded."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nvae_codec.container.archive.writer import Some
from nvae_codec.errors import NvaeCodecError
from nvae_codec.images.raster import RasterImage
from nvae_codec.zoo.library import Models

MOST_SAMPLED = 1 << 21
"""Pixels of the images that are read for it."""
LARGE_SEGMENT = 1 << 20
"""Segments of more pixels, on average, adapt the model to themselves at next to no cost."""


def choose_shared(
    groups: Sequence[Sequence[tuple[str, Some]]], read: Callable[[Some], RasterImage], models: Models, effort: int
) -> bytes:
    """The adaptation block for all segments with these images; empty if each segment does as well with its own.

    ``read`` gives an image; those that it cannot read count for nothing. Raises what loading a model raises.
    """
    images = [image for group in groups for _, image in group]
    total = sum(image.width * image.height for image in images)
    if effort == 1 or len(groups) < 2 or total > LARGE_SEGMENT * len(groups):
        return b""
    taken, pixels = [], 0
    for levels in _read_some(images, read, models):
        taken.append(levels)
        pixels += levels.shape[0] * levels.shape[1]
        if pixels >= MOST_SAMPLED:
            break
    return models.chosen().choose_adaptation(taken, effort, total) if taken else b""


def _read_some(
    images: Sequence[Some], read: Callable[[Some], RasterImage], models: Models
) -> Iterator[NDArray[np.uint8]]:
    """What the model sees of images in random order, the same order every time."""
    for index in np.random.Generator(np.random.PCG64(0)).permutation(len(images)):
        with contextlib.suppress(NvaeCodecError, OSError):
            yield models.input().take(read(images[index]))[1]
