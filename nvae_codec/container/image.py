"""One image, one file: each kind of .nvae file written and, right below, read."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.coded import Coded
from nvae_codec.container.checksums import content_checksum
from nvae_codec.container.extensions import METADATA, extension
from nvae_codec.container.fields import ByteReader
from nvae_codec.container.header import ID_BYTES, MODEL_KINDS, Header, Kind, Parts, join_parts, model_kind, split_parts
from nvae_codec.container.limits import pixel_limit
from nvae_codec.container.metadata import pack_metadata, unpack_metadata
from nvae_codec.container.planes import add_planes, pack_planes, take_planes
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.levels import ModelInput
from nvae_codec.images.limits import check_size
from nvae_codec.images.png import check_palette, parse_png
from nvae_codec.images.raster import Chunk, Colour, RasterImage
from nvae_codec.images.webp import BEST, decode_webp, encode_webp
from nvae_codec.schedule.shape import Shape
from nvae_codec.zoo.library import ImageCodec


class CodecFinder(Protocol):
    """Where a reader finds the codec that made a file."""

    def made_by(self, model_id: bytes) -> ImageCodec:
        """The codec whose identity begins with ``model_id``."""
        ...


def write_model_file(image: RasterImage, codec: ImageCodec) -> bytes:
    """A image through a model; raises UnsupportedImageError for one that it does not take."""
    shown, levels = codec.input.take(image)
    coded = codec.encode([levels])
    if image.width * image.height > pixel_limit(len(coded.payload)):
        raise UnsupportedImageError("the model has no need of so few bytes for so many pixels; --method auto takes it")
    return _write(image, model_kind(shown), pack_planes(image) + coded.payload, codec.identity[:ID_BYTES], coded.plan)


def _read_model_payload(parts: Parts, codecs: CodecFinder) -> RasterImage:
    header = parts.header
    codec = codecs.made_by(header.model_id)
    check_input(codec.input, header.kind, header.colour)
    reader = ByteReader(parts.payload, 0, len(parts.payload))
    blocks = take_planes(reader, header.colour)
    stack = reader.take(reader.left)
    if header.width * header.height > pixel_limit(len(stack)):
        raise DamagedFileError("damaged: its payload is too short for its pixels")
    levels = codec.decode([Shape(header.height, header.width, header.colour.is_gray)], Coded(stack, header.plan))
    pixels, low = add_planes(codec.input.show(levels[0], MODEL_KINDS[header.kind]), header.colour, blocks)
    return _image(parts, pixels, low)


def check_input(model: ModelInput, kind: Kind, colour: Colour) -> None:
    """Raise DamagedFileError for an image of a kind that the model cannot have made."""
    if colour not in model.colours or (model.bits == 8 and kind is not Kind.MODEL):
        raise DamagedFileError("damaged: its model does not make such images")


def write_webp_file(image: RasterImage, effort: tuple[int, int] = BEST) -> bytes:
    """Pixels of at most 8 bits as lossless WebP; raises UnsupportedImageError where WebP cannot hold them."""
    return _write(image, Kind.WEBP, encode_webp(image.require_bytes("WebP"), effort))


def _read_webp_payload(parts: Parts) -> RasterImage:
    header = parts.header
    return _image(parts, decode_webp(parts.payload, header.width, header.height, header.colour))


def write_pixels_file(image: RasterImage) -> bytes:
    """Pixels of at most 8 bits as they are: for images so small, or so noisy, that nothing gains."""
    return _write(image, Kind.PIXELS, image.require_bytes("this method").tobytes())


def _read_pixels_payload(parts: Parts) -> RasterImage:
    header = parts.header
    if len(parts.payload) != header.width * header.height * header.colour.channels:
        raise DamagedFileError("damaged: its pixels are of the wrong length")
    shape = (header.height, header.width, header.colour.channels)
    pixels = np.frombuffer(parts.payload, np.uint8).reshape(shape if header.colour.channels > 1 else shape[:2])
    return _image(parts, pixels)


def write_png_file(image: RasterImage) -> bytes:
    """A image that came as a PNG, as that file, byte for byte."""
    if image.png is None:
        raise UnsupportedImageError("only a PNG is kept as a file")
    as_file = RasterImage(image.width, image.height, image.colour, None, (), image.png)
    return _write(as_file, Kind.PNG, image.png)


def _read_png_payload(parts: Parts) -> RasterImage:
    header = parts.header
    png = parse_png(parts.payload)
    if (png.width, png.height, png.colour) != (header.width, header.height, header.colour):
        raise DamagedFileError("damaged: its PNG is another image")
    return RasterImage(png.width, png.height, png.colour, None, (), parts.payload)


def read_file(data: bytes, codecs: CodecFinder) -> RasterImage:
    """The image in an .nvae file.

    Raises DamagedFileError for a file that is not whole and unaltered, UnknownModelError where its model is missing,
    and UnsupportedImageError beyond Pillow's pixel limit.
    """
    parts = split_parts(data)
    check_size(parts.header.width, parts.header.height)
    by_model = parts.header.kind in MODEL_KINDS
    image = _read_model_payload(parts, codecs) if by_model else read_classical_payload(parts)
    check_samples(image)
    if content_checksum(image) != parts.header.content_checksum:
        raise DamagedFileError("damaged: the checksum of its pixels is wrong")
    return image


def check_samples(image: RasterImage) -> None:
    """Raise DamagedFileError where samples have more bits than their colour, or a palette is none."""
    if image.pixels is None:
        return
    if image.colour.bits < 8 and image.pixels.max() >> image.colour.bits:
        raise DamagedFileError("damaged: its samples have too many bits")
    check_palette(image.colour, image.chunks)


def read_classical_payload(parts: Parts) -> RasterImage:
    """The image of a payload that needs no model; raises DamagedFileError. Its checksum is the caller's to check."""
    match parts.header.kind:
        case Kind.WEBP:
            return _read_webp_payload(parts)
        case Kind.PIXELS:
            return _read_pixels_payload(parts)
        case Kind.PNG:
            return _read_png_payload(parts)
    raise ValueError("a payload of the model")


def _write(image: RasterImage, kind: Kind, payload: bytes, model_id: bytes = b"", plan: tuple[int, ...] = ()) -> bytes:
    checksum = content_checksum(image)
    extensions = (extension(METADATA, pack_metadata(image.chunks)),) if image.chunks else ()
    header = Header(kind, image.colour, image.width, image.height, checksum, model_id, plan, extensions)
    return join_parts(Parts(header, payload))


def _image(parts: Parts, pixels: NDArray[np.uint8], low: NDArray[np.uint8] | None = None) -> RasterImage:
    chunks: tuple[Chunk, ...] = unpack_metadata(parts.metadata) if parts.metadata else ()
    return RasterImage(parts.header.width, parts.header.height, parts.header.colour, pixels, chunks, low=low)
