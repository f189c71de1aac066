"""An archive in shards, made apart from each other and merged: the bytes are those of one that was made in one go.

    images     a b c │ d e │ f g h i │ j k     in segments, by their number and sizes alone
    shard 1/2    a b c │ d e                     an archive
    shard 2/2                │ f g h i │ j k     an archive
    merged       a b c │ d e │ f g h i │ j k     the same segments, and an index of all

A shard is an archive like others, whose index says which part of which whole it is.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import xxhash

from nvae_codec import __version__
from nvae_codec.container.archive.index import (
    HEADER_BYTES,
    Index,
    Segment,
    Shard,
    archive_header,
    check_count,
    pack_index,
    read_index,
)
from nvae_codec.container.archive.names import name_problems
from nvae_codec.container.archive.writer import Some
from nvae_codec.container.extensions import SHARD, Extensions, merge_extensions
from nvae_codec.errors import DamagedFileError, NvaeCodecError

COPIED = 1 << 20
"""Bytes that a merge reads at once."""


def take_shard(
    groups: Sequence[list[tuple[str, Some]]], number: int, count: int, settings: str
) -> tuple[list[list[tuple[str, Some]]], Shard]:
    """The segments of one shard of ``count``, neighbours, about as many pixels as in the others; and what it is.

    ``number`` from 1; a shard has no segment where there are fewer than shards. ``settings``: all else that the bytes
    depend on. Shards of other groups or settings do not go together.
    """
    areas = [1 + sum(each.width * each.height for _, each in group) for group in groups]
    total, before = sum(areas), 0
    mine = []
    for group, area in zip(groups, areas, strict=True):
        if count * (2 * before + area) // (2 * total) == number - 1:  # where its middle lies
            mine.append(group)
        before += area
    whole = xxhash.xxh3_64()
    whole.update(json.dumps([__version__, settings]).encode())
    for group in groups:
        whole.update(json.dumps([(name, each.width, each.height) for name, each in group]).encode())
    return mine, Shard(number, count, whole.digest())


def merge_shards(paths: Sequence[Path], out: BinaryIO, advance: Callable[[int], None] = lambda length: None) -> int:
    """Write the archive that these shards are the parts of, in any order, and give the number of its images.

    Nothing is decoded; ``advance`` is called with numbers of bytes copied. Raises NvaeCodecError where these are not
    all shards of one archive, each once, or where they have no image; DamagedFileError; OSError.
    """
    shards = sort_shards([(path, _read_index(path)) for path in paths])
    identity = shards[0][1].identity
    entries = [entry for _, index in shards for segment in index.segments for entry in segment.entries]
    if not entries:
        raise NvaeCodecError("there is no image in any of the shards")
    check_count(len(entries))
    for at, problem in name_problems([entry.name for entry in entries]).items():
        raise NvaeCodecError(f"the name {entries[at].name!r} {problem}")
    extensions: Extensions = ()
    for path, index in shards:
        own = tuple(block for block in index.extensions if block.type != SHARD.number)
        try:
            extensions = merge_extensions(extensions, own, alike=index is not shards[0][1])
        except NvaeCodecError as error:
            raise NvaeCodecError(f"{path} does not go together with the other shards: {error}") from None
    out.write(archive_header(identity))
    segments: list[Segment] = []
    end = HEADER_BYTES
    for path, index in shards:
        with path.open("rb") as file:
            for segment in index.segments:
                _copy(file, segment, out, path, advance)
                segments.append(Segment(end, segment.length, segment.checksum, segment.entries))
                end += segment.length
    out.write(pack_index(Index(identity, tuple(segments), extensions)))
    return len(entries)


def _read_index(path: Path) -> Index:
    try:
        with path.open("rb") as file:
            return read_index(file)
    except DamagedFileError as error:
        raise DamagedFileError(f"{path}: {error}") from error
    except OSError as error:
        raise NvaeCodecError(f"{path}: {error.strerror or error}") from error


class Part(Protocol):
    """What may be a shard: an archive's index, or a report."""

    @property
    def identity(self) -> bytes:
        """Of its model."""
        ...

    @property
    def shard(self) -> Shard | None:
        """Which part it is."""
        ...


SomePart = TypeVar("SomePart", bound=Part)


def sort_shards(found: Sequence[tuple[Path, SomePart]]) -> list[tuple[Path, SomePart]]:
    """All shards of a whole, each once, in their order; raises NvaeCodecError for anything else."""
    first, expected = found[0]
    other = _shard_of(first, expected)
    by_number: dict[int, tuple[Path, SomePart]] = {}
    for path, part in found:
        shard = _shard_of(path, part)
        if part.identity != expected.identity:
            mine, its = part.identity[:4].hex(), expected.identity[:4].hex()
            raise NvaeCodecError(f"{path}: of model {mine}, but {first} of {its}")
        if (shard.count, shard.whole) != (other.count, other.whole):
            raise NvaeCodecError(f"{path}: shard {shard}, of other inputs or options than {first}, shard {other}")
        if shard.number in by_number:
            raise NvaeCodecError(f"{path}: shard {shard} is there twice, in {by_number[shard.number][0]} too")
        by_number[shard.number] = path, part
    missing = other.count - len(by_number)
    if missing:
        number = next(number for number in itertools.count(1) if number not in by_number)
        more = f", and {missing - 1} more" if missing > 1 else ""
        raise NvaeCodecError(f"shard {number}/{other.count} is missing{more}")
    return [by_number[number] for number in sorted(by_number)]


def _shard_of(path: Path, part: Part) -> Shard:
    if part.shard is None:
        raise NvaeCodecError(f"{path}: it is a whole archive, not a shard")
    return part.shard


def _copy(file: BinaryIO, segment: Segment, out: BinaryIO, path: Path, advance: Callable[[int], None]) -> None:
    """Copy a segment piece by piece; raises DamagedFileError where its checksum is wrong."""
    file.seek(segment.start)
    checksum, left = xxhash.xxh3_64(), segment.length
    while left and (piece := file.read(min(left, COPIED))):
        checksum.update(piece)
        out.write(piece)
        advance(len(piece))
        left -= len(piece)
    if checksum.intdigest().to_bytes(8, "little") != segment.checksum:
        raise DamagedFileError(f"{path}: damaged: the checksum of a segment ({segment.entries[0].name} ...) is wrong")
