"""Modification times of the files of a segment's images, which ``unpack`` restores, as tar does."""

from __future__ import annotations

from collections.abc import Sequence

from nvae_codec.container.extensions import TIMES, Extensions, extension, find_extension
from nvae_codec.container.fields import LARGEST, ByteReader, pack_varints
from nvae_codec.errors import DamagedFileError

_END = 1 << 33  # seconds since 1970: differences fit a varint

Times = Sequence[int | None]
"""Seconds since 1970 of each image, or None where that is unknown."""


def pack_times(times: Times) -> Extensions:
    """The block of a segment; there is none where no time is known.

    Of each image 0 where its time is unknown, else 1 + the difference to the one before, d as 2d or -2d - 1.
    """
    values, before = [], 0
    for time in times:
        if time is None or not 0 <= time < _END:
            values.append(0)
            continue
        values.append(1 + (2 * (time - before) if time >= before else 2 * (before - time) - 1))
        before = time
    return (extension(TIMES, pack_varints(values)),) if any(values) else ()


def unpack_times(extensions: Extensions, count: int) -> Times:
    """The times of the ``count`` images of a segment. Raises DamagedFileError."""
    block = find_extension(extensions, TIMES)
    if block is None:
        return [None] * count
    reader, before = ByteReader(block), 0
    times: list[int | None] = []
    for _ in range(count):
        value = reader.varint(0, LARGEST)
        if value:
            twice = value - 1
            before += -(twice + 1) // 2 if twice & 1 else twice // 2
            if not 0 <= before < _END:
                raise DamagedFileError("damaged: an image's time is out of range")
        times.append(before if value else None)
    if reader.left:
        raise DamagedFileError("damaged: it has more times than images")
    return times
