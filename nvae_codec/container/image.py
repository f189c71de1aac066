"""One picture, one file: each kind of .nvae file written and, right below, read."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nvae_codec.container.checksums import content_checksum
from nvae_codec.container.fields import ByteReader
from nvae_codec.container.header import ID_BYTES, MODEL_KINDS, Header, Kind, Parts, join_parts, model_kind, split_parts
from nvae_codec.container.metadata import pack_metadata, unpack_metadata
from nvae_codec.container.planes import add_planes, pack_planes, take_planes
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.levels import ModelInput
from nvae_codec.images.limits import check_size
from nvae_codec.images.png import check_palette, parse_png
from nvae_codec.images.raster import Chunk, Colour, Picture
from nvae_codec.images.webp import BEST, decode_webp, encode_webp
from nvae_codec.zoo.library import ImageCodec


class CodecFinder(Protocol):
    """Where a reader finds the codec that made a file."""

    def made_by(self, model_id: bytes) -> ImageCodec:
        """The codec whose identity begins with ``model_id``."""
        ...


def write_model_file(picture: Picture, codec: ImageCodec) -> bytes:
    """A picture through a model; raises UnsupportedImageError for one that it does not take."""
    shown, levels = codec.input.take(picture)
    plan, payload = codec.encode(levels)
    return _write(picture, model_kind(shown), pack_planes(picture) + payload, codec.identity[:ID_BYTES], tuple(plan))


def _read_model_payload(parts: Parts, codecs: CodecFinder) -> Picture:
    header = parts.header
    codec = codecs.made_by(header.model_id)
    check_input(codec.input, header.kind, header.colour)
    reader = ByteReader(parts.payload, 0, len(parts.payload))
    blocks = take_planes(reader, header.colour)
    stack = reader.take(reader.left)
    levels = codec.decode(header.height, header.width, header.plan, stack, gray=header.colour.is_gray)
    pixels, low = add_planes(codec.input.show(levels, MODEL_KINDS[header.kind]), header.colour, blocks)
    return _picture(parts, pixels, low)


def check_input(model: ModelInput, kind: Kind, colour: Colour) -> None:
    """Raise DamagedFileError for a picture of a kind that the model cannot have made."""
    if colour not in model.colours or (model.bits == 8 and kind is not Kind.MODEL):
        raise DamagedFileError("damaged: its model does not make such pictures")


def write_webp_file(picture: Picture, effort: tuple[int, int] = BEST) -> bytes:
    """Pixels of at most 8 bits as lossless WebP; raises UnsupportedImageError where WebP cannot hold them."""
    return _write(picture, Kind.WEBP, encode_webp(picture.require_bytes("WebP"), effort))


def _read_webp_payload(parts: Parts) -> Picture:
    header = parts.header
    return _picture(parts, decode_webp(parts.payload, header.width, header.height, header.colour))


def write_pixels_file(picture: Picture) -> bytes:
    """Pixels of at most 8 bits as they are: for pictures so small, or so noisy, that nothing gains."""
    return _write(picture, Kind.PIXELS, picture.require_bytes("this method").tobytes())


def _read_pixels_payload(parts: Parts) -> Picture:
    header = parts.header
    if len(parts.payload) != header.width * header.height * header.colour.channels:
        raise DamagedFileError("damaged: its pixels are of the wrong length")
    shape = (header.height, header.width, header.colour.channels)
    pixels = np.frombuffer(parts.payload, np.uint8).reshape(shape if header.colour.channels > 1 else shape[:2])
    return _picture(parts, pixels)


def write_png_file(picture: Picture) -> bytes:
    """A picture that came as a PNG, as that file, byte for byte."""
    if picture.png is None:
        raise UnsupportedImageError("only a PNG is kept as a file")
    as_file = Picture(picture.width, picture.height, picture.colour, None, (), picture.png)
    return _write(as_file, Kind.PNG, picture.png)


def _read_png_payload(parts: Parts) -> Picture:
    header = parts.header
    png = parse_png(parts.payload)
    if (png.width, png.height, png.colour) != (header.width, header.height, header.colour):
        raise DamagedFileError("damaged: its PNG is another picture")
    return Picture(png.width, png.height, png.colour, None, (), parts.payload)


def read_file(data: bytes, codecs: CodecFinder) -> Picture:
    """The picture in an .nvae file.

    Raises DamagedFileError for a file that is not whole and unaltered, UnknownModelError where its model is missing,
    and UnsupportedImageError beyond Pillow's pixel limit.
    """
    parts = split_parts(data)
    check_size(parts.header.width, parts.header.height)
    by_model = parts.header.kind in MODEL_KINDS
    picture = _read_model_payload(parts, codecs) if by_model else read_classical_payload(parts)
    check_samples(picture)
    if content_checksum(picture) != parts.header.content_checksum:
        raise DamagedFileError("damaged: the checksum of its pixels is wrong")
    return picture


def check_samples(picture: Picture) -> None:
    """Raise DamagedFileError where samples have more bits than their colour, or a palette is none."""
    if picture.pixels is None:
        return
    if picture.colour.bits < 8 and picture.pixels.max() >> picture.colour.bits:
        raise DamagedFileError("damaged: its samples have too many bits")
    check_palette(picture.colour, picture.chunks)


def read_classical_payload(parts: Parts) -> Picture:
    """The picture of a payload that needs no model; raises DamagedFileError. Its checksum is the caller's to check."""
    match parts.header.kind:
        case Kind.WEBP:
            return _read_webp_payload(parts)
        case Kind.PIXELS:
            return _read_pixels_payload(parts)
        case Kind.PNG:
            return _read_png_payload(parts)
    raise ValueError("a payload of the model")


def _write(picture: Picture, kind: Kind, payload: bytes, model_id: bytes = b"", plan: tuple[int, ...] = ()) -> bytes:
    checksum = content_checksum(picture)
    header = Header(kind, picture.colour, picture.width, picture.height, checksum, model_id, plan)
    return join_parts(Parts(header, pack_metadata(picture.chunks) if picture.chunks else b"", payload))


def _picture(parts: Parts, pixels: NDArray[np.uint8], low: NDArray[np.uint8] | None = None) -> Picture:
    chunks: tuple[Chunk, ...] = unpack_metadata(parts.metadata) if parts.metadata else ()
    return Picture(parts.header.width, parts.header.height, parts.header.colour, pixels, chunks, low=low)
