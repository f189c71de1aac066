"""A segment of an archive: images that decode together. Those that the model takes share one stack.

    content checksum, 8 ┬ [plan ┬ stack] ┬ of each image what the model does not code ... ┬ [extension blocks]

Plan and stack are there if the model codes an image; all parts but the checksum follow their length.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xxhash
from numpy.typing import NDArray

from nvae_codec.coding.coded import Coded
from nvae_codec.coding.ledger import Ledger
from nvae_codec.container.archive.index import Entry
from nvae_codec.container.checksums import content_checksum
from nvae_codec.container.extensions import (
    METADATA,
    Extensions,
    extension,
    find_extension,
    pack_extensions,
    read_extensions,
)
from nvae_codec.container.fields import ByteReader, Varints, pack_sized, pack_varint, pack_varints
from nvae_codec.container.header import MODEL_KINDS, Header, Kind, Parts, model_kind, split_parts
from nvae_codec.container.image import CodecFinder, check_input, check_samples, read_classical_payload
from nvae_codec.container.limits import pixel_limit
from nvae_codec.container.metadata import pack_shared_metadata, unpack_shared_metadata
from nvae_codec.container.methods import ChosenCodec, write_file, write_without_model
from nvae_codec.container.planes import add_planes, pack_planes, take_planes
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.limits import check_pixel_count
from nvae_codec.images.raster import Chunk, RasterImage
from nvae_codec.schedule.shape import Shape

Named = tuple[str, RasterImage]


@dataclass(frozen=True)
class PackedSegment:
    """A segment's bytes and its images; ``problems``: names of those that are not in it, and why."""

    data: bytes
    entries: tuple[Entry, ...]
    problems: tuple[tuple[str, str], ...]


def pack_segment(named: Sequence[Named], method: str, codecs: ChosenCodec) -> PackedSegment:
    """Code images into a segment, each by the method or, for ``auto``, by what takes least for it.

    A image that the method does not take is left out. Raises what loading a model raises.
    """
    classical: dict[int, Parts] = {}
    problems: dict[int, str] = {}
    modelled: list[int] = []
    for index, (_, image) in enumerate(named):
        try:
            if method == "model":
                codecs.input().take(image)
            if method == "model" or (method == "auto" and codecs.input().takes(image)):
                modelled.append(index)
            else:
                file = write_without_model(image) if method == "auto" else write_file(image, method, codecs)
                classical[index] = split_parts(file)
        except UnsupportedImageError as error:
            problems[index] = str(error)
    shared = b""
    beside = {index: pack_planes(named[index][1]) for index in modelled}
    if modelled:
        shared, cheaper = _pack_stack({index: named[index][1] for index in modelled}, beside, method, codecs)
        classical |= cheaper
    chosen = [(name, image, classical.get(at)) for at, (name, image) in enumerate(named) if at not in problems]
    entries = tuple(_describe(name, image, parts, codecs) for name, image, parts in chosen)
    out = bytearray(_join_checksums([p.header.content_checksum if p else content_checksum(x) for _, x, p in chosen]))
    out += shared
    parts_of = (at for at in range(len(named)) if at not in problems)
    out += b"".join(pack_sized(classical[at].payload) if at in classical else beside[at] for at in parts_of)
    with_metadata = [image.chunks for (_, image, _), entry in zip(chosen, entries, strict=True) if entry.metadata]
    if with_metadata:
        out += pack_extensions([extension(METADATA, pack_shared_metadata(with_metadata))])
    return PackedSegment(bytes(out), entries, tuple((named[at][0], reason) for at, reason in problems.items()))


def _pack_stack(
    images: dict[int, RasterImage], beside: dict[int, bytes], method: str, codecs: ChosenCodec
) -> tuple[bytes, dict[int, Parts]]:
    """Plan and stack of the images that are best coded by the model, and the others by what is smaller.

    ``beside``: what of each image the model does not code.
    """
    codec = codecs.chosen()
    pixels = {index: codec.input.take(image)[1] for index, image in images.items()}
    cheaper: dict[int, Parts] = {}
    if method == "model":
        coded = codec.encode(list(pixels.values()))
    else:
        ledger = Ledger()
        coded = codec.encode(list(pixels.values()), ledger)
        for (index, image), bits in zip(images.items(), ledger.image_bits, strict=True):
            price = bits / 8 + len(beside[index])
            parts = split_parts(write_without_model(image, price))
            if len(parts.payload) < price:
                cheaper[index] = parts
        if cheaper:
            left = [pixels[index] for index in pixels if index not in cheaper]
            if not left:
                return b"", cheaper
            coded = codec.encode(left)
    return pack_varint(len(coded.plan)) + pack_varints(coded.plan) + pack_sized(coded.payload), cheaper


def _describe(name: str, image: RasterImage, parts: Parts | None, codecs: ChosenCodec) -> Entry:
    kind = parts.header.kind if parts else model_kind(codecs.input().take(image)[0])
    metadata = bool(image.chunks) and kind is not Kind.PNG
    return Entry(name, kind, image.colour, image.width, image.height, metadata)


def _join_checksums(checksums: Sequence[bytes]) -> bytes:
    return xxhash.xxh3_64_intdigest(b"".join(checksums)).to_bytes(8, "little")


def unpack_segment(data: bytes, entries: Sequence[Entry], identity: bytes, codecs: CodecFinder) -> list[RasterImage]:
    """The images of a segment whose own checksum is right; raises as ``unpack_wanted``."""
    return list(unpack_wanted(data, entries, identity, codecs, range(len(entries))).values())


def unpack_wanted(
    data: bytes, entries: Sequence[Entry], identity: bytes, codecs: CodecFinder, wanted: Collection[int]
) -> dict[int, RasterImage]:
    """The ``wanted`` images of a segment whose own checksum is right, by their place in it, and maybe others.

    ``identity`` of the model, 32 bytes. The model stops behind them where it can; the checksums of its batches then
    take the place of that of the segment's content. Raises DamagedFileError, UnknownModelError, and
    UnsupportedImageError beyond Pillow's pixel limit.
    """
    pixel_count = sum(entry.width * entry.height for entry in entries)
    check_pixel_count(pixel_count, f"a segment of {pixel_count:,} pixels")
    reader = ByteReader(data)
    checksum = reader.take(8)
    modelled = any(entry.kind in MODEL_KINDS for entry in entries)
    plan, stack = (Varints().read(reader), reader.sized()) if modelled else ((), b"")
    blocks_of = [
        take_planes(reader, entry.colour) if entry.kind in MODEL_KINDS else [reader.sized()] for entry in entries
    ]
    extensions = read_extensions(reader) if reader.left else ()
    if reader.left:
        raise DamagedFileError("damaged: it is too long")
    chunks = iter(_shared_metadata(extensions, sum(entry.metadata for entry in entries), len(data)))
    pixels = _decode_modelled(plan, stack, entries, identity, codecs, wanted) if modelled else {}
    whole = len(pixels) == sum(entry.kind in MODEL_KINDS for entry in entries)
    images: dict[int, RasterImage] = {}
    for place, (entry, blocks) in enumerate(zip(entries, blocks_of, strict=True)):
        its_chunks = next(chunks) if entry.metadata else ()
        if not whole and not (place in pixels and _is_by_model_alone(entry)):
            continue
        if place in pixels:
            samples, low = add_planes(pixels[place], entry.colour, blocks)
            image = RasterImage(entry.width, entry.height, entry.colour, samples, its_chunks, low=low)
        else:
            header = Header(entry.kind, entry.colour, entry.width, entry.height, b"")
            image = replace(read_classical_payload(Parts(header, blocks[0])), chunks=its_chunks)
        check_samples(image)
        images[place] = image
    if whole and _join_checksums([content_checksum(image) for image in images.values()]) != checksum:
        raise DamagedFileError("damaged: the checksum of its pixels is wrong")
    return images


def _shared_metadata(extensions: Extensions, count: int, room: int) -> list[tuple[Chunk, ...]]:
    """The chunks of the ``count`` images of a segment that have metadata."""
    block = find_extension(extensions, METADATA)
    if (block is not None) != bool(count):
        raise DamagedFileError("damaged: index and segment disagree about metadata")
    return [] if block is None else unpack_shared_metadata(block, count, room)


def _decode_modelled(
    plan: Sequence[int],
    stack: bytes,
    entries: Sequence[Entry],
    identity: bytes,
    codecs: CodecFinder,
    wanted: Collection[int],
) -> dict[int, NDArray[np.uint8]]:
    """The pixels of images that the model codes: of all, unless it codes those that are ``wanted`` alone."""
    modelled = [place for place, entry in enumerate(entries) if entry.kind in MODEL_KINDS]
    codec = codecs.made_by(identity)
    for place in modelled:
        check_input(codec.input, entries[place].kind, entries[place].colour)
    shapes = [Shape(e.height, e.width, e.colour.is_gray) for e in (entries[place] for place in modelled)]
    if sum(shape.height * shape.width for shape in shapes) > pixel_limit(len(stack)):
        raise DamagedFileError("damaged: its stack is too short for its pixels")
    all_of_them = not all(_is_by_model_alone(entries[place]) for place in wanted)
    goal = [at for at, place in enumerate(modelled) if all_of_them or place in wanted]
    levels = codec.decode(shapes, Coded(stack, tuple(plan)), goal)
    kinds = [MODEL_KINDS[entries[place].kind] for place in modelled]
    return {modelled[at]: codec.input.show(part, kinds[at]) for at, part in levels.items()}


def _is_by_model_alone(entry: Entry) -> bool:
    """Whether the checksums of batches are of all that the image's pixels follow from."""
    return entry.kind in MODEL_KINDS and not entry.colour.has_alpha and entry.colour.bits <= 8
