"""Augmentation of training crops: shrinking, flips, random affine maps."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.recipes.recipe import TrainingRecipe

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Choice:
    """The random choices of a crop."""

    factor: int
    y: int
    x: int
    flipped: bool
    transposed: bool
    affine: NDArray[np.float64] | None


def choose_crop(size: tuple[int, int], training: TrainingRecipe, rng: np.random.Generator) -> Choice:
    """A random crop of an image of so many rows and columns."""
    factor = _draw_factor(min(size), training, rng)
    y, x = (int(rng.integers(n - training.crop * factor + 1)) for n in size)
    flipped = rng.random() < training.hflip_prob
    transposed = rng.random() < training.transpose_prob
    warped = training.shift or training.rotate or training.scale or training.shear
    return Choice(factor, y, x, flipped, transposed, draw_warp(training, rng) if warped else None)


def take_crop(image: Pixels, choice: Choice, side: int, margin: int = 0) -> Pixels:
    """The chosen crop of an image (H, W, C), uint8 (side, side, C).

    With up to ``margin`` pixels more on each side, where the image has them.
    """
    factor = choice.factor
    rows, columns = (
        slice(at - factor * min(margin, at // factor), at + factor * min(side + margin, (n - at) // factor))
        for at, n in zip((choice.y, choice.x), image.shape, strict=False)
    )
    crop = shrink(image[rows, columns], factor)
    crop = crop[:, ::-1] if choice.flipped else crop
    crop = crop.transpose(1, 0, 2) if choice.transposed else crop
    return crop if choice.affine is None else warp(crop, choice.affine)


def _draw_factor(least: int, training: TrainingRecipe, rng: np.random.Generator) -> int:
    """The factor by which an image is shrunk, such that a crop still fits. Nothing is drawn if the only factor is 1."""
    factors = training.downsample
    if factors == [1]:
        return 1
    return max(1, min(factors[int(rng.integers(len(factors)))], least // training.crop))


def shrink(image: Pixels, factor: int) -> Pixels:
    """The mean of each square of ``factor`` pixels, rounded; height and width are multiples of it."""
    if factor == 1:
        return image
    h, w, c = image.shape
    squares = image.reshape(h // factor, factor, w // factor, factor, c)
    smaller: Pixels = np.rint(squares.mean((1, 3))).astype(np.uint8)
    return smaller


def draw_warp(training: TrainingRecipe, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random affine map (2, 3), in pixels from the center, from output to input positions."""
    angle = math.radians(rng.normal(0, training.rotate))
    across, along = np.exp(rng.normal(0, training.scale, 2))
    shear = rng.normal(0, training.shear)
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([rotation @ np.array([[across, shear], [0, along]]), rng.normal(0, training.shift, 2)])


def warp(crop: Pixels, affine: NDArray[np.float64]) -> Pixels:
    """The crop (H, W, C) seen through an affine map, bilinear, zeros outside."""
    h, w, _ = crop.shape
    middle = np.array([w / 2, h / 2])
    offset = middle + affine[:, 2] - affine[:, :2] @ middle
    (a, b), (d, e) = affine[:, :2]
    coefficients = (a, b, offset[0], d, e, offset[1])
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(plane)).transform(
                (w, h), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
            )
        )
        for plane in crop.transpose(2, 0, 1)
    ]
    return np.stack(planes, 2)
