"""Random crops of images of any size to train on, and held-out crops to measure on."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvae_codec.errors import NvaeCodecError
from nvae_codec.recipes.recipe import TrainingRecipe
from nvae_codec.training.augmentation import choose_crop, take_crop
from nvae_codec.training.histories import MARGIN, apply_history, draw_kind
from nvae_codec.training.sources import Loader

MEMORY = 4 << 30
"""Bytes of decoded pixels in memory; further images are decoded at each use."""


class Crops:
    """Images, from which crops are drawn with a probability in proportion to their size."""

    def __init__(self, loaders: Sequence[Loader], training: TrainingRecipe, memory: int = MEMORY) -> None:
        """Decode as many images as fit into ``memory`` bytes. Images smaller than a crop are left out.

        Raises NvaeCodecError if no image is left.
        """
        self.training = training
        self.loaders: list[Loader] = []
        self.pixels: list[NDArray[np.uint8] | None] = []
        self.sizes: list[tuple[int, int]] = []
        kept = 0
        for load in loaders:
            image = load()
            if min(image.shape[:2]) < training.crop:
                continue
            self.loaders.append(load)
            self.sizes.append(image.shape[:2])
            self.pixels.append(image if kept + image.nbytes <= memory else None)
            kept += image.nbytes if self.pixels[-1] is not None else 0
        if not self.loaders:
            raise NvaeCodecError(f"no image has a side of {training.crop} pixels or more")
        pixels = np.prod(self.sizes, axis=1)
        self.total_pixels = int(pixels.sum())
        self.share = pixels / self.total_pixels

    def draw(
        self, count: int, rng: np.random.Generator, rows: slice = slice(None), history: int | None = None
    ) -> NDArray[np.uint8]:
        """Random crops, uint8 (count, C, crop, crop), changed as the recipe says, with a kind of history.

        Only those of ``rows`` are computed; ``rng`` advances as far as for all.
        """
        indices = rng.choice(len(self.loaders), count, p=self.share)
        choices = [(index, choose_crop(self.sizes[index], self.training, rng)) for index in indices]
        side, recipe = self.training.crop, self.training.histories
        if history is None or recipe is None:
            crops = [take_crop(self._read(index), choice, side) for index, choice in choices[rows]]
        else:
            drawn = list(zip(choices, rng.spawn(count), strict=True))[rows]
            crops = [
                apply_history(take_crop(self._read(index), choice, side, MARGIN), history, side, recipe, own)
                for (index, choice), own in drawn
            ]
        return np.stack(crops).transpose(0, 3, 1, 2)

    def _read(self, index: int) -> NDArray[np.uint8]:
        kept = self.pixels[index]
        return kept if kept is not None else self.loaders[index]()


@dataclass(frozen=True)
class StepCrops:
    """What a step trains on: pixels uint8 (B, C, crop, crop), the expert that it trains, and the seed of its noise."""

    pixels: NDArray[np.uint8]
    expert: int
    seed: int


def draw_step(data: Crops, training: TrainingRecipe, rows: slice, step: int) -> StepCrops:
    """The crops of a step, ``rows`` of its batch; they depend on the recipe's seed and the step's number alone."""
    rng, histories = np.random.default_rng([training.seed, step]), training.histories
    kind = draw_kind(histories, rng) if histories is not None else None
    expert = histories.experts[kind] if histories is not None and kind is not None else 0
    pixels = data.draw(training.batch, rng, rows, kind)
    return StepCrops(pixels, expert, int(rng.integers(2**62)))


class Prefetcher:
    """Draws the crops of the next step in a thread while the current step is computed."""

    def __init__(self, draw: Callable[[int], StepCrops], steps: int) -> None:
        """``draw`` gives the crops of each of ``steps`` steps, from 0."""
        self._draw, self._steps = draw, steps
        self._thread = ThreadPoolExecutor(1, "crops")
        self._next: tuple[int, Future[StepCrops]] | None = None

    def take(self, step: int) -> StepCrops:
        """The crops of a step, and begin to draw those of the next one."""
        if self._next is None or self._next[0] != step:
            self._next = step, self._thread.submit(self._draw, step)
        crops = self._next[1].result()
        self._next = (step + 1, self._thread.submit(self._draw, step + 1)) if step + 1 < self._steps else None
        return crops


def pad_smaller(load: Loader, size: int) -> Loader:
    """The same image with zeros around it if it has fewer than ``size`` rows or columns."""

    def padded() -> NDArray[np.uint8]:
        image = load()
        missing = [max(0, size - n) for n in image.shape[:2]]
        return np.pad(image, [*((n // 2, n - n // 2) for n in missing), (0, 0)]) if any(missing) else image

    return padded


def held_out_crops(loaders: Sequence[Loader], side: int, stride: int, padding: int = 0) -> NDArray[np.uint8]:
    """The middle of each image that is large enough, uint8 (N, C, side, side).

    If no image is, the smallest image that the network can process sets the side, rounded down so that, with
    ``padding`` on each side, it is a multiple of the stride.
    """
    least = stride * -(-(2 * padding + 1) // stride) - 2 * padding
    read = [load() for load in loaders]
    images = [image for image in read if min(image.shape[:2]) >= side]
    images = images or [image for image in read if min(image.shape[:2]) >= least]
    side = min([side] + [n for image in images for n in image.shape[:2]])
    side = (side + 2 * padding) // stride * stride - 2 * padding
    if not images or side < least:
        raise NvaeCodecError(f"no image to measure on has sides of {least} pixels or more")
    middle = []
    for image in images:
        y, x = ((n - side) // 2 for n in image.shape[:2])
        middle.append(image[y : y + side, x : x + side].transpose(2, 0, 1))
    return np.ascontiguousarray(np.stack(middle))
