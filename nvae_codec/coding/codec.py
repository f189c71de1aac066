"""Images to a stack and back with an integer model: the batches of a segment, which share a stack.

A single image is a segment of one.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.adaptation import EFFORTS, LEAST_PIXELS
from nvae_codec.coding.ans import Stack
from nvae_codec.coding.batch import Batch, order_colours, restore_colours
from nvae_codec.coding.bitsback import decode_batch, encode_batch
from nvae_codec.coding.canvas import Canvas, gather_plane
from nvae_codec.coding.coded import ADAPTATION_BLOCK, Coded
from nvae_codec.coding.ledger import BatchCosts, Ledger
from nvae_codec.errors import DamagedFileError, NvaeCodecError
from nvae_codec.images.levels import ModelInput
from nvae_codec.integer.canary import check_canary
from nvae_codec.integer.inference import exact_inference
from nvae_codec.integer.model import IntegerModel
from nvae_codec.progress import count_pixels
from nvae_codec.runtime import Runtime
from nvae_codec.schedule.plan import PlanKind, largest_batch, read_plan
from nvae_codec.schedule.policy import Policy
from nvae_codec.schedule.record import levels_checksum
from nvae_codec.schedule.shape import Shape
from nvae_codec.schedule.tiles import Tile

Result = TypeVar("Result")
Levels = NDArray[np.uint8]

FEWER_TILES = 16
"""Tiles that are evaluated together after a GPU had too little memory for all tiles of a batch."""

FEW_PIXELS, BLOCK_BYTES = 1 << 16, 2
"""Images of fewer pixels are coded with and without adaptation, whose block has so many bytes besides its content. For
larger images the estimate of the gain is accurate enough."""
FEW_PIXELS_OF_ARCHIVE = 1 << 20
"""The same for segments of an archive that has an adaptation: in larger segments their own costs next to nothing."""


class ModelCodec:
    """An integer model that compresses images of any size, alone or many together.

    Levels are uint8, from 0 to the model's largest value: (H, W) gray, or (H, W, 3). A model of RGB takes both: it sees
    gray as three equal colours, of which one is coded.
    """

    def __init__(
        self, model: IntegerModel, runtime: Runtime | None = None, *, device: torch.device | None = None
    ) -> None:
        """``device`` is where the constants of the model's graph are; ``runtime.device`` has been resolved to it."""
        self.model = self.base = model
        self.policy = Policy(model)
        self.runtime = runtime or Runtime()
        self.device = device or torch.device("cpu")
        self.batch_tiles = self.runtime.batch_tiles
        self._proved: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        """The state for another process, maybe on another machine, where the canary has not been run."""
        return self.__dict__ | {"_proved": set()}

    def prove(self) -> None:
        """Run the model's canary, unless it has passed with torch's current number of threads.

        Raises NumericsError if the device does not compute the model's integers.
        """
        threads = torch.get_num_threads() if self.device.type == "cpu" else 0
        if threads not in self._proved:
            check_canary(self.base.graph, self.base.canary, self.device)
            self._proved.add(threads)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """A context in which the network can be evaluated: exact arithmetic, the runtime's threads, a passed canary.

        The user's settings of torch are restored afterwards. Raises NumericsError as :meth:`prove`.
        """
        with self.runtime.scope_threads():
            self.prove()
            with exact_inference(self.device):
                yield

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def identity(self) -> bytes:
        """SHA-256 of all that files of the model depend on, 32 bytes."""
        return self.model.identity

    @property
    def input(self) -> ModelInput:
        """The images that the model takes."""
        return ModelInput(self.model.channels, self.model.value_bits)

    def encode(
        self, images: Sequence[Levels], ledger: Ledger | None = None, *, effort: int = 1, shared: bytes = b""
    ) -> Coded:
        """Code one or more images on one stack, and report what they cost to the ``ledger``.

        With an ``effort`` above 1 the model is adapted to the images if that makes the result smaller
        (docs/adaptation.md). ``shared`` is the adaptation block of their archive, which codes images that have none of
        their own. Raises NumericsError as :meth:`prove`, NvaeCodecError if a GPU has too little memory for
        one tile, ValueError for an effort that is not from 1 to 9.
        """
        pixels = sum(levels.shape[0] * levels.shape[1] for levels in images)
        if effort == 1 or (effort in EFFORTS and pixels < LEAST_PIXELS):
            return self._encode_shared(images, shared, ledger)
        from nvae_codec.adaptation.effort import count_work  # compiled code: half a second

        with count_pixels(pixels, count_work(self.base, pixels, effort)):
            adaptation = self.choose_adaptation(images, effort)
            if not adaptation:
                return self._encode_shared(images, shared, ledger)
            if pixels > (FEW_PIXELS_OF_ARCHIVE if shared else FEW_PIXELS):
                return self.encode_adapted(images, adaptation, ledger)
            adapted, without = self.encode_adapted(images, adaptation), self._encode_shared(images, shared)
            own = len(without.payload) > len(adapted.payload) + len(adaptation) + BLOCK_BYTES
            if ledger is None:
                return adapted if own else without
            return (
                self.encode_adapted(images, adaptation, ledger) if own else self._encode_shared(images, shared, ledger)
            )

    def _encode_shared(self, images: Sequence[Levels], shared: bytes, ledger: Ledger | None = None) -> Coded:
        """Code images with the adaptation of their archive, which is no part of the result."""
        return replace(self.encode_adapted(images, shared, ledger), extensions=())

    def choose_adaptation(self, images: Sequence[Levels], effort: int, total: int | None = None) -> bytes:
        """The content of an adaptation block for images that share it; empty if none makes them smaller.

        ``total`` is the number of pixels of all images that will share it, if ``images`` are a sample of them.
        """
        from nvae_codec.adaptation.effort import adapt_to

        with self.ready():
            return adapt_to(self.base, images, effort, self.device, total)

    def adapted(self, adaptation: bytes) -> ModelCodec:
        """The codec of the model that an adaptation block makes, itself for an empty one. Raises DamagedFileError."""
        if not adaptation:
            return self
        from nvae_codec.adaptation.layers import adapt_model
        from nvae_codec.adaptation.parameters import Adaptation

        codec = copy.copy(self)
        codec._proved = self._proved
        codec.model = adapt_model(self.base, Adaptation.unpack(adaptation, self.base))
        return codec

    def encode_adapted(self, images: Sequence[Levels], adaptation: bytes, ledger: Ledger | None = None) -> Coded:
        """Code images as :meth:`encode`, with the model that an adaptation block makes."""
        coded = self.adapted(adaptation)._encode_images(images, ledger)
        return replace(coded, extensions=((ADAPTATION_BLOCK, adaptation),)) if adaptation else coded

    def _encode_images(self, images: Sequence[Levels], ledger: Ledger | None) -> Coded:
        *first, (last, tiles) = self.policy.plans(images).items()
        with self.ready(), count_pixels(sum(levels.shape[0] * levels.shape[1] for levels in images)):
            for kind, growing in first:
                coded = self._within_memory(partial(self._encode, images, growing, kind, ledger, may_starve=False))
                if coded is not None:
                    return coded
            coded = self._within_memory(partial(self._encode, images, tiles, last, ledger, may_starve=True))
        assert coded is not None, "the last plan may starve"
        return coded

    def _encode(
        self, images: Sequence[Levels], tiles: list[Tile], kind: PlanKind, ledger: Ledger | None, *, may_starve: bool
    ) -> Coded | None:
        """The images with one plan; None, unless it ``may_starve``, where the latents of a batch find too few bits."""
        if ledger is not None:
            ledger.begin(len(images))
        planes = [order_colours(levels, self.model.colour_order) for levels in images]
        largest = self.policy.largest(kind, tiles)

        def attempt(count: int) -> int:
            trial = Stack()
            encode_batch(trial, self._fill_batch(planes, tiles[:count], kind, first=True), None)
            return trial.bits

        count = self.policy.first_count(tiles, largest, attempt)
        stack, plan, done = Stack(), [kind.number], 0
        stack_size: int | None = None
        while done < len(tiles):
            chosen, before = tiles[done : done + count], stack.bits
            must_feed = not may_starve and stack_size is not None
            if must_feed and self.policy.is_hopeless(chosen, before):
                return None
            batch = self._fill_batch(planes, chosen, kind, first=stack_size is None)
            costs = None if ledger is None else self._observe(stack, batch, chosen, first=stack_size is None)
            record = encode_batch(stack, batch, stack_size)
            if must_feed and self.policy.is_starved(before, record.before):
                return None
            if ledger is not None and costs is not None:
                ledger.add(costs)
            if kind.checked:
                record = replace(record, checksum=levels_checksum(batch.canvas.tiles))
            plan += record.numbers(dense=kind.growth.dense)
            done, stack_size = done + record.tiles, record.end
            if done < len(tiles):
                count = self.policy.next_count(tiles[done:], stack.bits, largest)
        if ledger is not None:
            ledger.stack_bits = stack.bits
        return Coded(stack.to_bytes(), tuple(plan))

    def decode(self, shapes: Sequence[Shape], coded: Coded, wanted: Collection[int] | None = None) -> dict[int, Levels]:
        """Decode images, by their index: the ``wanted`` ones (None: all), and those in the same or earlier batches.

        Without checksums of batches, all images are decoded. Raises DamagedFileError if shapes, plan and payload do not
        belong together, and what :meth:`encode` raises.
        """
        goal = range(len(shapes)) if wanted is None else wanted
        codec = self.adapted(dict(coded.extensions).get(ADAPTATION_BLOCK, b""))
        with self.ready(), count_pixels(sum(shape.height * shape.width for shape in shapes)):
            return codec._within_memory(partial(codec._decode, shapes, coded, goal))

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        """Do the work, and repeat it with fewer tiles at a time while a GPU runs out of memory.

        Raises NvaeCodecError if there is too little memory for one tile.
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if self.batch_tiles == 1:
                    raise NvaeCodecError("the GPU has too little memory for this image; use --device cpu") from None
            self.batch_tiles = max(1, (self.batch_tiles or 2 * FEWER_TILES) // 2)
            torch.cuda.empty_cache()

    def _decode(self, shapes: Sequence[Shape], coded: Coded, wanted: Collection[int]) -> dict[int, Levels]:
        model = self.model
        batches = read_plan(shapes, coded.plan, model.side, largest_batch(model.channels))
        kind, stack = PlanKind.read(coded.plan[0]), Stack(coded.payload)
        planes = [np.empty((model.channels, shape.height, shape.width), np.uint8) for shape in shapes]
        missing = Counter(tile.image for tiles, _ in batches for tile in tiles)
        to_do = sum(missing[image] for image in set(wanted))
        stack_size = [None, *(record.end for _, record in batches[:-1])]
        while batches and (to_do or not kind.checked):
            tiles, record = batches.pop()
            batch = self._batch(tiles, kind, first=not batches)
            decode_batch(stack, batch, stack_size.pop(), record)
            if kind.checked and levels_checksum(batch.canvas.tiles) != record.checksum:
                raise DamagedFileError("damaged: the checksum of a batch's pixels is wrong")
            for tile, pixels in zip(tiles, batch.canvas.tiles, strict=True):
                planes[tile.image][:, tile.rows, tile.columns] = pixels
                missing[tile.image] -= 1
                to_do -= tile.image in wanted
        if not batches and not stack.is_empty():
            raise DamagedFileError("damaged: something is left on the stack")
        whole = [index for index in range(len(shapes)) if not missing[index]]
        return {index: restore_colours(planes[index], model.colour_order, gray=shapes[index].gray) for index in whole}

    def repeat(self, costs: BatchCosts) -> Batch:
        """A new batch with the same full canvas, to be evaluated in another way."""
        gray, first = costs.tiles[0].gray, costs.first
        return Batch(self.model, costs.canvas, first=first, chunk=self.batch_tiles, device=self.device, gray=gray)

    def _observe(self, stack: Stack, batch: Batch, tiles: list[Tile], *, first: bool) -> BatchCosts:
        costs = BatchCosts(tiles, batch.canvas, batch.coded, first, self.model.latent_bits, self.model.pixel_bits)
        stack.observer = costs
        return costs

    def _batch(self, tiles: Sequence[Tile], kind: PlanKind, *, first: bool) -> Batch:
        model, tile, dense = self.model, tiles[0], kind.growth.dense
        canvas = Canvas(len(tiles), (tile.height, tile.width), model.stride, model.channels, model.padding)
        return Batch(
            model, canvas, first=first, dense=dense, chunk=self.batch_tiles, device=self.device, gray=tile.gray
        )

    def _fill_batch(self, planes: Sequence[Levels], tiles: Sequence[Tile], kind: PlanKind, *, first: bool) -> Batch:
        batch = self._batch(tiles, kind, first=first)
        for phase in self.model.phases:
            batch.canvas.write(phase.plane, gather_plane(planes, tiles, phase.plane))
        return batch
