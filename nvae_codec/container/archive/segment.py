"""A segment of an archive: images that decode together. Those that the model takes share one stack.

    content checksum, 8 ┬ [plan ┬ stack] ┬ of each image what the model does not code ... ┬ [extension blocks]

Plan and stack are there if the model codes an image; all parts but the checksum follow their length.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from nvae_codec.adaptation import DEFAULT_EFFORT
from nvae_codec.coding.coded import Coded
from nvae_codec.coding.ledger import Ledger
from nvae_codec.container.archive.index import Entry
from nvae_codec.container.archive.times import pack_times, unpack_times
from nvae_codec.container.checksums import content_checksum
from nvae_codec.container.extensions import (
    METADATA,
    Extensions,
    coder_blocks,
    extension,
    find_extension,
    pack_coder_blocks,
    pack_extensions,
    read_extensions,
)
from nvae_codec.container.fields import VARINTS, ByteReader, pack_sized
from nvae_codec.container.header import MODEL_KINDS, Kind, model_kind
from nvae_codec.container.image import Candidate, CodecFinder, check_input, check_samples, describe, read_payload
from nvae_codec.container.limits import check_pixels, pixel_limit
from nvae_codec.container.metadata import pack_shared_metadata, unpack_shared_metadata
from nvae_codec.container.methods import ChosenCodec, choose_without_model, code, needs_own_file, takes
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


def pack_segment(
    named: Sequence[Named], method: str, codecs: ChosenCodec, effort: int = DEFAULT_EFFORT, shared: bytes = b""
) -> PackedSegment:
    """Code images into a segment, each by the method or, for ``auto``, by the one that takes least for it.

    An image that the method does not take is left out. ``shared`` is the adaptation of the archive, empty if it has
    none. Raises what loading a model raises.
    """
    candidates: dict[int, Candidate] = {}
    problems: dict[int, str] = {}
    modelled: list[int] = []
    for index, (_, image) in enumerate(named):
        if only := needs_own_file(image, method):
            candidates[index] = only
            continue
        try:
            describe(image)
            by_model = method == "model" or (method == "auto" and takes(codecs.input(), image))
            if by_model:
                codecs.input().take(image)
                modelled.append(index)
            else:
                candidates[index] = (
                    choose_without_model(image) if method == "auto" else code(image, method, codecs, effort)
                )
        except UnsupportedImageError as error:
            problems[index] = str(error)
    coded = None
    if modelled:
        coded, chosen = _code_together({index: named[index][1] for index in modelled}, method, codecs, effort, shared)
        candidates |= chosen
    kept = [(*named[index], candidates[index]) for index in sorted(candidates)]
    entries = tuple(
        Entry(
            name, each.kind, image.colour, image.width, image.height, bool(image.chunks) and each.kind is not Kind.FILE
        )
        for name, image, each in kept
    )
    out = bytearray(join_checksums([content_checksum(x, each.own_file) for _, x, each in kept]))
    if coded is not None:
        out += VARINTS.pack(coded.plan) + pack_sized(coded.payload)
    for _, _, candidate in kept:
        out += candidate.planes if candidate.kind in MODEL_KINDS else pack_sized(candidate.coded.payload)
    chunks = [image.chunks for (_, image, _), entry in zip(kept, entries, strict=True) if entry.metadata]
    metadata = (extension(METADATA, pack_shared_metadata(chunks)),) if chunks else ()
    coder = pack_coder_blocks(coded) if coded is not None else ()
    out += pack_extensions(metadata + coder + pack_times([image.modified for _, image, _ in kept]))
    return PackedSegment(bytes(out), entries, tuple((named[at][0], reason) for at, reason in problems.items()))


def _code_together(
    images: dict[int, RasterImage], method: str, codecs: ChosenCodec, effort: int, shared: bytes
) -> tuple[Coded | None, dict[int, Candidate]]:
    """What the model makes of those images that it codes best, and how each image is kept."""
    codec = codecs.chosen()
    taken = {index: codec.input.take(image) for index, image in images.items()}
    ledger = Ledger() if method == "auto" else None
    coded = codec.encode([levels for _, levels in taken.values()], ledger, effort=effort, shared=shared)
    kept = {
        index: Candidate(model_kind(shown), Coded(b""), pack_planes(images[index]))
        for index, (shown, _) in taken.items()
    }  # fmt: skip
    if ledger is not None:
        for (index, image), bits in zip(images.items(), ledger.image_bits, strict=True):
            price = bits / 8 + len(kept[index].planes)
            other = choose_without_model(image, price)
            if len(other.coded.payload) < price:
                kept[index] = other
        left = [index for index, candidate in kept.items() if candidate.kind in MODEL_KINDS]
        if not left:
            return None, kept
        if len(left) < len(kept):
            coded = codec.encode([taken[index][1] for index in left], effort=effort, shared=shared)
    pixels = sum(images[index].width * images[index].height for index in kept if kept[index].kind in MODEL_KINDS)
    if pixels > pixel_limit(len(coded.payload)):
        raise UnsupportedImageError("the model takes too few bytes for so many pixels; --method webp keeps them")
    return coded, kept


def join_checksums(checksums: Sequence[bytes]) -> bytes:
    """The content checksum of a segment: the XXH3-64 of those of its images."""
    return xxhash.xxh3_64_intdigest(b"".join(checksums)).to_bytes(8, "little")


def unpack_segment(
    data: bytes, entries: Sequence[Entry], identity: bytes, codecs: CodecFinder, shared: Extensions = ()
) -> list[RasterImage]:
    """The images of a segment whose own checksum is right; raises as ``unpack_wanted``."""
    return list(unpack_wanted(data, entries, identity, codecs, range(len(entries)), shared).values())


def unpack_wanted(
    data: bytes,
    entries: Sequence[Entry],
    identity: bytes,
    codecs: CodecFinder,
    wanted: Collection[int],
    shared: Extensions = (),
) -> dict[int, RasterImage]:
    """The ``wanted`` images of a segment whose own checksum is right, by their index in it, and maybe others.

    identity: of the model, 32 bytes. shared: the extension blocks of the archive. The model stops after the wanted
    images where it can; the checksums of its batches then replace that of the segment's content. Raises
    DamagedFileError, UnknownModelError, and UnsupportedImageError beyond Pillow's pixel limit.
    """
    pixel_count = sum(entry.width * entry.height for entry in entries)
    check_pixel_count(pixel_count, f"a segment of {pixel_count:,} pixels")
    modelled = [index for index, entry in enumerate(entries) if entry.kind in MODEL_KINDS]
    reader = ByteReader(data)
    checksum = reader.take(8)
    plan, stack = (VARINTS.read(reader), reader.sized()) if modelled else ((), b"")
    payloads = [
        take_planes(reader, entry.colour) if entry.kind in MODEL_KINDS else [reader.sized()] for entry in entries
    ]
    extensions = read_extensions(reader) if reader.left else ()
    if reader.left:
        raise DamagedFileError("damaged: it is too long")
    chunks = iter(_shared_metadata(extensions, sum(entry.metadata for entry in entries), len(data)))
    times = unpack_times(extensions, len(entries))
    pixels: dict[int, NDArray[np.uint8]] = {}
    if modelled:
        all_of_them = not all(_is_by_model_alone(entries[index]) for index in wanted)
        goal = [at for at, index in enumerate(modelled) if all_of_them or index in wanted]
        coded = Coded(stack, plan, coder_blocks(extensions, shared))
        levels = _decode_modelled(codecs, identity, [entries[index] for index in modelled], coded, goal)
        pixels = {modelled[at]: each for at, each in levels.items()}
    whole = len(pixels) == len(modelled)
    images: dict[int, RasterImage] = {}
    for index, (entry, payload) in enumerate(zip(entries, payloads, strict=True)):
        its_chunks = next(chunks) if entry.metadata else ()
        if not whole and not (index in pixels and _is_by_model_alone(entry)):
            continue
        samples, low, png = None, None, None
        if index in pixels:
            samples, low = add_planes(pixels[index], entry.colour, payload)
        else:
            samples, png = read_payload(entry.kind, entry.colour, entry.width, entry.height, payload[0])
        size = entry.width, entry.height
        image = RasterImage(*size, entry.colour, samples, its_chunks, png, low=low, modified=times[index])
        check_samples(image)
        images[index] = image
    if whole and join_checksums([content_checksum(image) for image in images.values()]) != checksum:
        raise DamagedFileError("damaged: the checksum of its pixels is wrong")
    return images


def _shared_metadata(extensions: Extensions, count: int, room: int) -> list[tuple[Chunk, ...]]:
    """The chunks of the ``count`` images of a segment that have metadata."""
    block = find_extension(extensions, METADATA)
    if (block is not None) != bool(count):
        raise DamagedFileError("damaged: index and segment disagree about metadata")
    return [] if block is None else unpack_shared_metadata(block, count, room)


def _decode_modelled(
    codecs: CodecFinder, identity: bytes, entries: Sequence[Entry], coded: Coded, goal: Sequence[int]
) -> dict[int, NDArray[np.uint8]]:
    """The pixels of images that the model codes, those of the ``goal`` at least."""
    check_pixels(sum(entry.width * entry.height for entry in entries), len(coded.payload))
    codec = codecs.made_by(identity)
    for entry in entries:
        check_input(codec.input, entry.kind, entry.colour)
    levels = codec.decode([Shape(entry.height, entry.width, entry.colour.is_gray) for entry in entries], coded, goal)
    return {index: codec.input.show(each, MODEL_KINDS[entries[index].kind]) for index, each in levels.items()}


def _is_by_model_alone(entry: Entry) -> bool:
    """Whether the checksums of batches are of all that the image's pixels follow from."""
    return entry.kind in MODEL_KINDS and not entry.colour.has_alpha and entry.colour.bits <= 8
