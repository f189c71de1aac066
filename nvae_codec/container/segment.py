"""A segment of an archive: pictures that decode together. Those that the model takes share one stack.

    content checksum, 8 ┬ [metadata] ┬ [plan ┬ stack] ┬ of each picture what the model does not code ...

Each part in brackets is there if a picture of the index needs it; each but the checksum stands behind its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from nvae_codec.container.checksums import content_checksum
from nvae_codec.container.choice import ChosenCodec, write_file, write_without_model
from nvae_codec.container.header import MODEL_KINDS, Header, Kind, Parts, model_kind, split_parts
from nvae_codec.container.image import CodecFinder, check_input, check_samples, read_classical_payload
from nvae_codec.container.index import Entry
from nvae_codec.container.metadata import pack_shared_metadata, unpack_shared_metadata
from nvae_codec.container.planes import add_planes, pack_planes, take_planes
from nvae_codec.container.varints import LARGEST, ByteReader, pack_varint
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.limits import check_pixel_count
from nvae_codec.images.picture import Picture

Named = tuple[str, Picture]


@dataclass(frozen=True)
class PackedSegment:
    """A segment's bytes and its pictures; ``problems``: names of those that are not in it, and why."""

    data: bytes
    entries: tuple[Entry, ...]
    problems: tuple[tuple[str, str], ...]


def pack_segment(named: Sequence[Named], method: str, codecs: ChosenCodec) -> PackedSegment:
    """Code pictures into a segment, each by the method or, for ``auto``, by what takes least for it.

    A picture that the method does not take is left out. Raises what loading a model raises.
    """
    classical: dict[int, Parts] = {}
    problems: dict[int, str] = {}
    modelled: list[int] = []
    for index, (_, picture) in enumerate(named):
        try:
            if method == "model":
                codecs.input().take(picture)
            if method == "model" or (method == "auto" and codecs.input().takes(picture)):
                modelled.append(index)
            else:
                file = write_without_model(picture) if method == "auto" else write_file(picture, method, codecs)
                classical[index] = split_parts(file)
        except UnsupportedImageError as error:
            problems[index] = str(error)
    shared = b""
    beside = {index: pack_planes(named[index][1]) for index in modelled}
    if modelled:
        shared, cheaper = _pack_stack({index: named[index][1] for index in modelled}, beside, method, codecs)
        classical |= cheaper
    chosen = [(name, picture, classical.get(at)) for at, (name, picture) in enumerate(named) if at not in problems]
    entries = tuple(_describe(name, picture, parts, codecs) for name, picture, parts in chosen)
    out = bytearray(_join_checksums([p.header.content_checksum if p else content_checksum(x) for _, x, p in chosen]))
    with_metadata = [picture.chunks for (_, picture, _), entry in zip(chosen, entries, strict=True) if entry.metadata]
    if with_metadata:
        out += _behind_length(pack_shared_metadata(with_metadata))
    out += shared
    parts_of = (at for at in range(len(named)) if at not in problems)
    out += b"".join(_behind_length(classical[at].payload) if at in classical else beside[at] for at in parts_of)
    return PackedSegment(bytes(out), entries, tuple((named[at][0], reason) for at, reason in problems.items()))


def _pack_stack(
    pictures: dict[int, Picture], beside: dict[int, bytes], method: str, codecs: ChosenCodec
) -> tuple[bytes, dict[int, Parts]]:
    """Plan and stack of the pictures that are best coded by the model, and the others by what is smaller.

    ``beside``: what of each picture the model does not code.
    """
    codec = codecs.chosen()
    pixels = {index: codec.input.take(picture)[1] for index, picture in pictures.items()}
    cheaper: dict[int, Parts] = {}
    if method == "model":
        plan, stack = codec.encode_segment(list(pixels.values()))
    else:
        plan, stack, prices = codec.encode_priced(list(pixels.values()))
        for (index, picture), bits in zip(pictures.items(), prices, strict=True):
            price = bits / 8 + len(beside[index])
            parts = split_parts(write_without_model(picture, price))
            if len(parts.payload) < price:
                cheaper[index] = parts
        if cheaper:
            left = [pixels[index] for index in pixels if index not in cheaper]
            plan, stack = codec.encode_segment(left) if left else ([], b"")
    if not plan:
        return b"", cheaper
    return pack_varint(len(plan)) + b"".join(map(pack_varint, plan)) + _behind_length(stack), cheaper


def _describe(name: str, picture: Picture, parts: Parts | None, codecs: ChosenCodec) -> Entry:
    kind = parts.header.kind if parts else model_kind(codecs.input().take(picture)[0])
    metadata = bool(picture.chunks) and kind is not Kind.PNG
    return Entry(name, kind, picture.colour, picture.width, picture.height, metadata)


def _behind_length(data: bytes) -> bytes:
    return pack_varint(len(data)) + data


def _join_checksums(checksums: Sequence[bytes]) -> bytes:
    return xxhash.xxh3_64_intdigest(b"".join(checksums)).to_bytes(8, "little")


def unpack_segment(data: bytes, entries: Sequence[Entry], identity: bytes, codecs: CodecFinder) -> list[Picture]:
    """The pictures of a segment whose own checksum is right; ``identity`` of the model, 32 bytes.

    Raises DamagedFileError, UnknownModelError, and UnsupportedImageError beyond Pillow's pixel limit.
    """
    pixel_count = sum(entry.width * entry.height for entry in entries)
    check_pixel_count(pixel_count, f"a segment of {pixel_count:,} pixels")
    reader = ByteReader(data, 0, len(data))
    checksum = reader.take(8)
    count = sum(entry.metadata for entry in entries)
    chunks = iter(unpack_shared_metadata(_take_sized(reader), count) if count else ())
    modelled = [entry for entry in entries if entry.kind in MODEL_KINDS]
    pixels: Iterator[NDArray[np.uint8]] = iter(())
    if modelled:
        plan = [reader.varint(0, LARGEST) for _ in range(reader.varint(0, reader.left))]
        sizes = [(entry.height, entry.width) for entry in modelled]
        codec = codecs.made_by(identity)
        for entry in modelled:
            check_input(codec.input, entry.kind, entry.colour)
        gray = [entry.colour.is_gray for entry in modelled]
        levels = codec.decode_segment(sizes, plan, _take_sized(reader), gray)
        pixels = (codec.input.show(part, MODEL_KINDS[entry.kind]) for part, entry in zip(levels, modelled, strict=True))
    pictures = []
    for entry in entries:
        if entry.kind in MODEL_KINDS:
            whole, low = add_planes(next(pixels), entry.colour, take_planes(reader, entry.colour))
            picture = Picture(entry.width, entry.height, entry.colour, whole, low=low)
        else:
            header = Header(entry.kind, entry.colour, entry.width, entry.height, b"")
            picture = read_classical_payload(Parts(header, b"", _take_sized(reader)))
        pictures.append(replace(picture, chunks=next(chunks)) if entry.metadata else picture)
        check_samples(pictures[-1])
    if reader.left:
        raise DamagedFileError("damaged: it is too long")
    if _join_checksums([content_checksum(picture) for picture in pictures]) != checksum:
        raise DamagedFileError("damaged: the checksum of its pixels is wrong")
    return pictures


def _take_sized(reader: ByteReader) -> bytes:
    return reader.take(reader.varint(0, reader.left))
