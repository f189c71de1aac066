"""What a picture may become before a crop of it is trained on: smaller, turned, mirrored."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.recipe import TrainingRecipe

Pixels = NDArray[np.uint8]


def draw_crop(picture: Pixels, training: TrainingRecipe, rng: np.random.Generator) -> Pixels:
    """A random crop of a picture (H, W, C) as the recipe says, uint8 (crop, crop, C)."""
    side = training.crop
    factor = _draw_factor(picture, training, rng)
    seen = side * factor
    y, x = (int(rng.integers(n - seen + 1)) for n in picture.shape[:2])
    crop = shrink(picture[y : y + seen, x : x + seen], factor)
    crop = crop[:, ::-1] if rng.random() < training.mirror_share else crop
    crop = crop.transpose(1, 0, 2) if rng.random() < training.transpose_share else crop
    if training.shift or training.rotate or training.scale or training.shear:
        crop = warp(crop, draw_warp(training, rng))
    return crop


def _draw_factor(picture: Pixels, training: TrainingRecipe, rng: np.random.Generator) -> int:
    """How many times smaller the picture is seen, of those that leave a crop; no number is drawn for a lone one."""
    factors = training.downsample
    if len(factors) == 1 and factors[0] == 1:
        return 1
    factor = int(factors[rng.integers(len(factors))])
    height, width, _ = picture.shape
    largest: int = min(height, width) // training.crop
    return max(1, min(factor, largest))


def shrink(picture: Pixels, factor: int) -> Pixels:
    """The mean of each square of ``factor`` pixels, rounded; sides are multiples of it."""
    if factor == 1:
        return picture
    h, w, c = picture.shape
    squares = picture.reshape(h // factor, factor, w // factor, factor, c)
    smaller: Pixels = np.rint(squares.mean((1, 3))).astype(np.uint8)
    return smaller


def draw_warp(training: TrainingRecipe, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random affine map of the plane (2, 3), in pixels from the middle: where each place looks."""
    angle = math.radians(rng.normal(0, training.rotate))
    across, along = np.exp(rng.normal(0, training.scale, 2))
    shear = rng.normal(0, training.shear)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([turn @ np.array([[across, shear], [0, along]]), rng.normal(0, training.shift, 2)])


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
