"""Images to a stack and back with an integer model: the batches of a segment, which share a stack.

A single image is a segment of one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from nvae_codec.coding.ans import Stack
from nvae_codec.coding.batch import Batch, order_colours, restore_colours
from nvae_codec.coding.bitsback import pop_batch, push_batch
from nvae_codec.coding.coded import Coded
from nvae_codec.coding.ledger import BatchCosts, Ledger
from nvae_codec.errors import DamagedFileError, NvaeCodecError
from nvae_codec.images.levels import ModelInput
from nvae_codec.integer.canary import check_canary
from nvae_codec.integer.inference import exact_inference
from nvae_codec.integer.model import IntegerModel
from nvae_codec.runtime import Runtime
from nvae_codec.schedule.plan import PlanKind, batch_pixels, count_alike, read_plan
from nvae_codec.schedule.record import levels_checksum
from nvae_codec.schedule.shape import Shape
from nvae_codec.schedule.tiles import (
    CORNER_SIDE,
    DENSE,
    LARGEST_BATCH,
    SPARSE,
    Canvas,
    Growth,
    Tile,
    busiest_corner,
    cut_plane,
    plan_segment,
    segment_order,
)

Result = TypeVar("Result")
Levels = NDArray[np.uint8]

TILES_AT_FIRST = 16
"""So many tiles together are tried first where a GPU had too little memory for all of a batch."""

FILL = 0.9
"""How much of what lies on the stack the latents of a batch may take."""

DENSE_BITS = 2.0
"""Latents are dense that take more of the stack, in bits a pixel."""

STARVED = 8
"""Where no such part of the stack is left, the latents of a batch have likely found too few: a slice of them takes all
its quantiles before it gives back what is too many."""

HOPELESS = 1.5
"""A batch starves whose latents take so many times the bits on the stack: BITS_IN_FLIGHT has less room than that."""

CHECKED_PIXELS = 1 << 16
"""Where images together have more, their batches have checksums and so many pixels, or a quarter of all: whoever
wants one image stops behind its batch. Images of one bit are too small for that."""

BITS_IN_FLIGHT, FLOWN_IN_FLIGHT = 3.0, 6.0
"""What popping a latent takes from the stack, about: -log2 of a bin as wide as sigma, with room; and with flows."""


class ModelCodec:
    """An integer model that compresses images of any size, alone or many together.

    Levels are uint8, from 0 to the model's largest value: (H, W) gray, or (H, W, 3). A model of RGB takes both, and
    sees gray as three equal colours, of which one is coded.
    """

    def __init__(
        self, model: IntegerModel, runtime: Runtime | None = None, *, device: torch.device | None = None
    ) -> None:
        """``device`` is where the constants of the model's graph are; ``runtime.device`` has been resolved to it."""
        self.model = model
        self.runtime = runtime or Runtime()
        self.device = device or torch.device("cpu")
        self.batch_tiles = self.runtime.batch_tiles
        self._proved: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        """What another process, maybe of another machine, needs: there the canary has not been run."""
        return self.__dict__ | {"_proved": set()}

    def prove(self) -> None:
        """Run the model's canary, unless that was done with as many threads as torch has now.

        Raises NumericsError where the device computes something else than the model's integers.
        """
        threads = torch.get_num_threads() if self.device.type == "cpu" else 0
        if threads not in self._proved:
            check_canary(self.model.graph, self.model.canary, self.device)
            self._proved.add(threads)

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Evaluate the network inside of the block: exact arithmetic on the runtime's threads, once the canary passed.

        The user's settings of torch come back afterwards. Raises NumericsError as :meth:`prove`.
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

    def encode(self, images: Sequence[Levels], ledger: Ledger | None = None) -> Coded:
        """Code images that share a stack, at least one, and report what they cost to the ``ledger``.

        The plan: which growth and corner the tiles have, then the numbers of each batch (docs/format.md). Raises
        NumericsError as :meth:`prove`, NvaeCodecError where a GPU has too little memory for one tile.
        """
        shapes = [Shape.of(levels) for levels in images]
        pixel_count = sum(shape.pixels for shape in shapes)
        checked = len(images) > 1 and self.model.value_bits > 1 and pixel_count > CHECKED_PIXELS
        corner = busiest_corner(images[segment_order(shapes)[0]])
        plans: dict[Growth, list[Tile]] = {}
        for growth in self._growths:
            tiles = plan_segment(shapes, growth, corner, self.model.side)
            if tiles not in plans.values():
                plans[growth if len(tiles) > 1 else SPARSE[0]] = tiles  # of a lone tile, nobody asks for the end
        last = list(plans)[-1]
        with self.ready():
            for growth, tiles in plans.items():
                kind = PlanKind(growth, corner, checked)
                work = partial(self._encode, images, tiles, kind, may_starve=growth == last, ledger=ledger)
                coded = self._within_memory(work)
                if coded is not None:
                    break
        assert coded is not None, "the last may starve"
        return coded

    def _encode(
        self, images: Sequence[Levels], tiles: list[Tile], kind: PlanKind, *, may_starve: bool, ledger: Ledger | None
    ) -> Coded | None:
        """The images with one plan; None, unless it ``may_starve``, where the latents of a batch find too few bits."""
        planes = [order_colours(pixels, self.model.colour_order) for pixels in images]
        plan, done, dense = list[int](), 0, kind.growth.dense
        largest = self._largest_batch
        if kind.checked:
            largest = min(largest, max(CHECKED_PIXELS, batch_pixels(tiles) // 4))
        start: int | None = None
        if ledger is not None:
            ledger.begin(len(images))
        size = self._choose_first(planes, tiles, largest, dense=dense)
        stack = Stack()
        while done < len(tiles):
            chosen = tiles[done : done + size]
            must_feed = not may_starve and start is not None
            if must_feed and size * self._bits_in_flight(chosen[0]) > HOPELESS * stack.bits:
                return None  # without walking it: what starves is cut into slices of few symbols, and slow
            lying = stack.bits
            batch = self._fill_batch(planes, chosen, first=start is None, dense=dense)
            costs = None if ledger is None else self._costs_of(chosen, batch, first=start is None)
            record = push_batch(stack, batch, start, costs)
            if must_feed and record.before < lying // STARVED:
                return None
            if ledger is not None and costs is not None:
                ledger.add(costs)
            if kind.checked:
                record = replace(record, checksum=levels_checksum(batch.canvas.tiles))
            plan += record.numbers(dense=dense)
            done, start = done + record.tiles, record.end
            size = self._choose_size(tiles[done:], stack.bits, largest) if done < len(tiles) else 0
        if ledger is not None:
            ledger.stack_bits = stack.bits
        return Coded(stack.to_bytes(), (kind.number, *plan))

    def decode(self, shapes: Sequence[Shape], coded: Coded, wanted: Collection[int] | None = None) -> dict[int, Levels]:
        """The images by their index: the ``wanted`` ones (None: all), and maybe others that lie on the way to them.

        All of them if batches have no checksums. Raises DamagedFileError where shapes, plan and payload do not belong
        together, and what :meth:`encode` raises.
        """
        goal = range(len(shapes)) if wanted is None else wanted
        with self.ready():
            return self._within_memory(partial(self._decode, shapes, coded, goal))

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        """Do the work, and again with fewer tiles together where a GPU has too little memory for them.

        Raises NvaeCodecError where it has too little for one.
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if self.batch_tiles == 1:
                    raise NvaeCodecError("the GPU has too little memory for this image; use --device cpu") from None
            self.batch_tiles = max(1, (self.batch_tiles or 2 * TILES_AT_FIRST) // 2)
            torch.cuda.empty_cache()

    def _decode(self, shapes: Sequence[Shape], coded: Coded, wanted: Collection[int]) -> dict[int, Levels]:
        parts = read_plan(shapes, coded.plan, self.model.side, self._largest_batch)
        kind = PlanKind.read(coded.plan[0])
        stack = Stack(coded.payload, ramp=not kind.growth.older)
        planes = [np.empty((self.model.channels, shape.height, shape.width), np.uint8) for shape in shapes]
        missing = Counter(tile.image for tiles, _ in parts for tile in tiles)
        goal = set(wanted)
        to_do = sum(missing[image] for image in goal)
        starts: list[int | None] = [None]
        for _, record in parts[:-1]:
            starts.append(record.end)
        for (tiles, record), start in zip(reversed(parts), reversed(starts), strict=True):
            if kind.checked and not to_do:
                break
            batch = self._batch(tiles, first=start is None, dense=kind.growth.dense)
            pop_batch(stack, batch, start, record)
            if kind.checked and levels_checksum(batch.canvas.tiles) != record.checksum:
                raise DamagedFileError("damaged: the checksum of a batch's pixels is wrong")
            for tile, pixels in zip(tiles, batch.canvas.tiles, strict=True):
                image = planes[tile.image]
                image[:, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width] = pixels
            missing.subtract(tile.image for tile in tiles)
            to_do -= sum(tile.image in goal for tile in tiles)
        if not missing.total() and not stack.is_empty():
            raise DamagedFileError("damaged: something is left on the stack")
        order = self.model.colour_order
        whole = [index for index in range(len(shapes)) if not missing[index]]
        return {index: restore_colours(planes[index], order, gray=shapes[index].gray) for index in whole}

    def _batch(self, tiles: Sequence[Tile], *, first: bool, dense: bool) -> Batch:
        size, model, gray = (tiles[0].height, tiles[0].width), self.model, tiles[0].gray
        canvas = Canvas(len(tiles), size, model.stride, model.channels, model.padding)
        return Batch(model, canvas, first=first, dense=dense, chunk=self.batch_tiles, device=self.device, gray=gray)

    def _costs_of(self, tiles: list[Tile], batch: Batch, *, first: bool) -> BatchCosts:
        return BatchCosts(tiles, batch.canvas, first, self.model.latent_bits, self.model.pixel_bits)

    def repeat(self, costs: BatchCosts) -> Batch:
        """A batch again, its canvas full, to be evaluated in another way."""
        gray = costs.tiles[0].gray
        return Batch(self.model, costs.canvas, first=costs.first, chunk=self.batch_tiles, device=self.device, gray=gray)

    def _fill_batch(self, planes: Sequence[Levels], tiles: Sequence[Tile], *, first: bool, dense: bool) -> Batch:
        batch = self._batch(tiles, first=first, dense=dense)
        for phase in self.model.phases:
            batch.canvas.write(phase.plane, cut_plane(planes, tiles, phase.plane))
        return batch

    def _choose_first(self, planes: Sequence[Levels], tiles: Sequence[Tile], largest: int, *, dense: bool) -> int:
        """Tiles of the first batch: one, or of one size as many as leave what the latents of the next take.

        Small images that cost few bits starve one another: better that a few have coarse latents.
        """
        count, needed = 1, self._bits_in_flight(tiles[0])
        most = count_alike(tiles, largest // (tiles[0].height * tiles[0].width))
        while count < most:
            stack = Stack()
            push_batch(stack, self._fill_batch(planes, tiles[:count], first=True, dense=dense), None)
            fed = FILL * stack.bits / needed if needed else 1
            if fed >= 1:
                break
            count = min(most, max(count + 1, int(count / max(fed, 0.25))))
        return count

    def _choose_size(self, tiles: Sequence[Tile], bits: int, largest: int) -> int:
        """Tiles of one size as many as the stack's bits feed, of ``largest`` pixels together; at least one."""
        first = tiles[0]
        fed = int(FILL * bits / max(self._bits_in_flight(first), 1))
        return count_alike(tiles, min(fed, largest // (first.height * first.width)))

    @property
    def _growths(self) -> tuple[Growth, ...]:
        """Those that the encoder tries, the largest first."""
        square = Tile(0, 0, CORNER_SIDE, CORNER_SIDE)
        return DENSE if self._bits_in_flight(square) > DENSE_BITS * CORNER_SIDE**2 else SPARSE

    @property
    def _largest_batch(self) -> int:
        """Pixels of a batch of several tiles at most: thrice as many where they have one colour."""
        return LARGEST_BATCH * 3 // self.model.channels

    def _bits_in_flight(self, tile: Tile) -> float:
        """What popping the latents of a tile takes from the stack, about."""
        seen = (tile.height + 2 * self.model.padding) * (tile.width + 2 * self.model.padding)
        fine = [math.log2(group.coarse / 4) for group in self.model.groups]
        bits = [
            FLOWN_IN_FLIGHT if group.flow_bounds else BITS_IN_FLIGHT + max(more, 0)
            for more, group in zip(fine, self.model.groups, strict=True)
        ]
        return sum(
            each * len(group.kept) * seen / group.stride**2 for each, group in zip(bits, self.model.groups, strict=True)
        )
