"""An archive against the bounds: every bit of it is attributed to an image and a cause.

The bits of an image's symbols are its own. Those of its segment (stack, padding, plan, metadata, checksum) are shared
by the segment's images, and those of the archive (header, index, trailer) by all images. Shares are equal and multiples
of 2^-20 bit, and add up to the file exactly. Checksums of segments, deflated with the index, and of batches, which are
numbers of the plan, count as header.
"""

import io
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.coded import Coded
from nvae_codec.coding.ledger import Ledger
from nvae_codec.container.archive.index import Index, Segment, read_index
from nvae_codec.container.archive.segment import Named, unpack_segment
from nvae_codec.container.archive.writer import write_archive
from nvae_codec.container.extensions import ADAPTATION, find_extension, pack_coder_blocks
from nvae_codec.container.metadata import pack_shared_metadata
from nvae_codec.errors import NvaeCodecError
from nvae_codec.evaluation.images import Bounds, Evaluator, Row
from nvae_codec.evaluation.overhead import ImageCosts, break_down_segment
from nvae_codec.images.raster import same_image
from nvae_codec.zoo.library import Models

GRID = 2**20
CHECKSUM_BITS = 64
"""Of each segment's content, and of index and header: an XXH3-64 each."""

Measured = tuple[Row, NDArray[np.float32]]


def measure_archive(evaluator: Evaluator, groups: Sequence[Sequence[Named]]) -> tuple[list[Measured], dict[str, Any]]:
    """The row and the map of bits of each image, 8-bit RGB, in segments; and what the JSON says of the archive.

    Raises NvaeCodecError if there is no image, or if the archive does not decode to the images.
    """
    if not groups:
        raise NvaeCodecError("there is no image to measure")
    file, encode_seconds = _write(groups, Models(evaluator.codec), evaluator.effort)
    index = read_index(io.BytesIO(file))
    decode_seconds = _check(file, index, groups, Models(evaluator.codec))
    count = sum(map(len, groups))
    common = share_bits(8 * (len(file) - sum(segment.length for segment in index.segments)) - CHECKSUM_BITS, count)
    trailer = share_bits(CHECKSUM_BITS, count)
    found: list[Measured] = []
    for group, segment in zip(groups, index.segments, strict=True):
        ledger = Ledger(details=True)
        levels = [evaluator.codec.input.take(image)[1] for _, image in group]
        coded = evaluator.codec.encode(levels, ledger, effort=evaluator.effort)
        block = find_extension(pack_coder_blocks(coded), ADAPTATION) or b""
        bounds = [evaluator.bound(image.require_pixels("the model"), block) for _, image in group]
        if coded.payload not in file[segment.start : segment.start + segment.length]:
            raise NvaeCodecError("a second encoding gave another archive")
        by_image = _break_down(group, segment, ledger, coded, bounds, evaluator)
        for (name, image), bound, costs in zip(group, bounds, by_image, strict=True):
            costs.bits["header"] += common[len(found)]
            costs.bits["checksums"] += trailer[len(found)]
            achieved = costs.achieved()
            seconds = encode_seconds / count, decode_seconds / count
            found.append((evaluator.make_row(name, image, bound, achieved, *seconds), achieved.heat))
    return found, {"segments": len(index.segments), "bytes": len(file)}


def _break_down(
    group: Sequence[Named],
    segment: Segment,
    ledger: Ledger,
    coded: Coded,
    bounds: Sequence[Bounds],
    evaluator: Evaluator,
) -> list[ImageCosts]:
    """The bits of a segment by image and cause."""
    payload, block = 8 * len(coded.payload), find_extension(pack_coder_blocks(coded), ADAPTATION) or b""
    pixels = [image.require_pixels("the model") for _, image in group]
    exact = [bound.integer for bound in bounds]
    by_image = break_down_segment(
        pixels, evaluator.codec.adapted(block), ledger, exact, seed=evaluator.seed, samples=evaluator.samples
    )
    chunks = [image.chunks for _, image in group if image.chunks]
    metadata = 8 * len(pack_shared_metadata(chunks)) if chunks else 0
    shared = {
        "stack": ledger.stack_bits - sum(costs.ideal for costs in by_image),
        "padding": payload - ledger.stack_bits,
        "adaptation": 8 * len(block),
        "header": 8 * (segment.length - len(block)) - payload - metadata - CHECKSUM_BITS,
        "checksums": CHECKSUM_BITS,
    }
    parts = {cause: share_bits(bits, len(by_image)) for cause, bits in shared.items()}
    described = iter(share_bits(metadata, len(chunks)) if chunks else [])
    for at, (costs, (_, image)) in enumerate(zip(by_image, group, strict=True)):
        costs.bits |= {cause: bits[at] for cause, bits in parts.items()}
        costs.bits["metadata"] = next(described) if image.chunks else 0.0
    return by_image


def share_bits(bits: float, count: int) -> list[float]:
    """Split bits, a multiple of 2^-20, into parts that are equal up to 2^-20 and add up exactly."""
    each, more = divmod(round(bits * GRID), count)
    return [(each + (at < more)) / GRID for at in range(count)]


def _write(groups: Sequence[Sequence[Named]], models: Models, effort: int) -> tuple[bytes, float]:
    """The archive, and the seconds of making it."""
    out, start = io.BytesIO(), time.perf_counter()
    for packed in write_archive(out, groups, method="model", models=models, effort=effort):
        for name, reason in packed.problems:
            raise NvaeCodecError(f"{name}: {reason}")
    return out.getvalue(), time.perf_counter() - start


def _check(file: bytes, index: Index, groups: Sequence[Sequence[Named]], models: Models) -> float:
    """The seconds of decoding. Raises NvaeCodecError where other images come back."""
    start = time.perf_counter()
    decoded = [
        unpack_segment(file[segment.start : segment.start + segment.length], segment.entries, index.identity, models)
        for segment in index.segments
    ]
    seconds = time.perf_counter() - start
    for group, images in zip(groups, decoded, strict=True):
        if not all(same_image(one, other) for (_, one), other in zip(group, images, strict=True)):
            raise NvaeCodecError("the archive does not decode to the same images")
    return seconds
