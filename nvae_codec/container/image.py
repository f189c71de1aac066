"""Files of one image: a candidate finalized as an .nvae file, and the reader of such files."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nvae_codec.coding.coded import Coded
from nvae_codec.container.checksums import content_checksum
from nvae_codec.container.extensions import METADATA, Extensions, coder_blocks, extension, pack_coder_blocks
from nvae_codec.container.fields import ByteReader
from nvae_codec.container.header import MODEL_KINDS, Header, Kind, Parts, join_parts, split_beginning, split_parts
from nvae_codec.container.limits import check_pixels
from nvae_codec.container.metadata import pack_metadata, unpack_metadata
from nvae_codec.container.planes import add_planes, take_planes
from nvae_codec.errors import DamagedFileError, UnsupportedImageError
from nvae_codec.images.levels import ModelInput
from nvae_codec.images.limits import check_size
from nvae_codec.images.png import check_palette
from nvae_codec.images.raster import Colour, RasterImage
from nvae_codec.images.read import find_suffix, read_own_file
from nvae_codec.images.webp import decode_webp
from nvae_codec.schedule.shape import Shape
from nvae_codec.zoo.library import ImageCodec


class CodecFinder(Protocol):
    """Finds the codec that made a file."""

    def made_by(self, model_id: bytes) -> ImageCodec:
        """The codec whose identity begins with ``model_id``."""
        ...


@dataclass(frozen=True)
class Candidate:
    """An image as one method keeps it, before it is a file.

    coded: the method's payload; of a model also plan and extension blocks. planes: what the model does not code, which
    comes before its payload. model_id: the first bytes of the model's identity; empty for other methods.
    """

    kind: Kind
    coded: Coded
    planes: bytes = b""
    model_id: bytes = b""

    @property
    def own_file(self) -> bytes | None:
        """The image's own file, if it is kept as its own file."""
        return self.coded.payload if self.kind is Kind.FILE else None

    def size(self, image: RasterImage, metadata: Extensions) -> int:
        """The size of the finished file in bytes."""
        return len(self._join(image, metadata, bytes(8), b"")) + len(self.planes) + len(self.coded.payload)

    def finalize(self, image: RasterImage, metadata: Extensions) -> bytes:
        """The finished file. ``image``: the one that was coded; ``metadata``: its blocks, from ``describe``."""
        checksum = content_checksum(image, self.own_file)
        return self._join(image, metadata, checksum, self.planes + self.coded.payload)

    def _join(self, image: RasterImage, metadata: Extensions, checksum: bytes, payload: bytes) -> bytes:
        own = metadata if self.own_file is None else ()  # which keeps its metadata itself
        header = Header(
            self.kind, image.colour, image.width, image.height, checksum, self.model_id, self.coded.plan,
            own + pack_coder_blocks(self.coded),
        )  # fmt: skip
        return join_parts(Parts(header, payload))


def describe(image: RasterImage) -> Extensions:
    """The metadata block of an image, if it has metadata. Raises UnsupportedImageError if it is too large."""
    return (extension(METADATA, pack_metadata(image.chunks)),) if image.chunks else ()


def find_restored_suffix(beginning: bytes) -> str:
    """The suffix of the restored image of a file with this beginning: .png, or that of the own file in it."""
    try:
        parts = split_beginning(beginning)
    except DamagedFileError:
        return ".png"
    return find_suffix(parts.payload) if parts.header.kind is Kind.FILE else ".png"


def read_file(data: bytes, codecs: CodecFinder) -> RasterImage:
    """Decode the image in an .nvae file.

    Raises DamagedFileError for a truncated or altered file, UnknownModelError if its model is not installed,
    and UnsupportedImageError beyond Pillow's pixel limit.
    """
    header, payload = (parts := split_parts(data)).header, parts.payload
    check_size(header.width, header.height)
    low = file = pixels = None
    if header.kind in MODEL_KINDS:
        reader = ByteReader(payload)
        planes = take_planes(reader, header.colour)
        coded = Coded(reader.take(reader.left), header.plan, coder_blocks(header.extensions))
        check_pixels(header.width * header.height, len(coded.payload))
        codec = codecs.made_by(header.model_id)
        check_input(codec.input, header.kind, header.colour)
        levels = codec.decode([Shape(header.height, header.width, header.colour.is_gray)], coded)[0]
        pixels, low = add_planes(codec.input.show(levels, MODEL_KINDS[header.kind]), header.colour, planes)
    else:
        pixels, file = read_payload(header.kind, header.colour, header.width, header.height, payload)
    chunks = unpack_metadata(parts.metadata) if parts.metadata else ()
    image = RasterImage(header.width, header.height, header.colour, pixels, chunks, file, low=low)
    check_samples(image)
    if content_checksum(image) != header.content_checksum:
        raise DamagedFileError("damaged: the checksum of its pixels is wrong")
    return image


def check_input(model: ModelInput, kind: Kind, colour: Colour) -> None:
    """Raise DamagedFileError for an image of a kind that the model cannot have coded."""
    if colour not in model.colours or (model.bits == 8 and kind is not Kind.MODEL):
        raise DamagedFileError("damaged: its model does not make such images")


def check_samples(image: RasterImage) -> None:
    """Raise DamagedFileError where samples have more bits than their colour, or a palette is impossible."""
    if image.pixels is None:
        return
    if image.colour.bits < 8 and image.pixels.max() >> image.colour.bits:
        raise DamagedFileError("damaged: its samples have too many bits")
    check_palette(image.colour, image.chunks)


def read_payload(
    kind: Kind, colour: Colour, width: int, height: int, payload: bytes
) -> tuple[NDArray[np.uint8] | None, bytes | None]:
    """Pixels, or an own file, of a payload that needs no model; raises DamagedFileError."""
    match kind:
        case Kind.WEBP:
            return decode_webp(payload, width, height, colour), None
        case Kind.PIXELS:
            if len(payload) != width * height * colour.channels:
                raise DamagedFileError("damaged: its pixels are of the wrong length")
            shape = (height, width, colour.channels) if colour.channels > 1 else (height, width)
            return np.frombuffer(payload, np.uint8).reshape(shape), None
        case Kind.FILE:
            try:
                image = read_own_file(payload)
            except UnsupportedImageError as error:
                raise DamagedFileError(f"damaged: its own file is not supported: {error}") from error
            if (image.width, image.height, image.colour) != (width, height, colour):
                raise DamagedFileError("damaged: its own file is another image")
            return None, payload
    raise ValueError("a payload of the model")
