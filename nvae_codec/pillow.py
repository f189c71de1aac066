"""Pillow reads and writes .nvae files once this module is imported, as it does any format.

    import nvae_codec.pillow

    image = Image.open("photo.nvae")    # size, mode and metadata; the pixels are decoded when they are needed
    image.save("copy.nvae", method="model", exif=image.getexif())

What an image is in Pillow, its mode and its ``info``, is what it would be had it come as a PNG.
"""

import io
import mimetypes
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, ClassVar, cast

from PIL import Image, ImageFile, PngImagePlugin

from nvae_codec.adaptation import DEFAULT_EFFORT
from nvae_codec.container.header import ARCHIVE, MAGIC, VERSION, Kind, split_beginning, split_parts
from nvae_codec.container.image import read_file
from nvae_codec.container.metadata import unpack_metadata
from nvae_codec.container.methods import write_file
from nvae_codec.errors import DamagedFileError, NvaeCodecError
from nvae_codec.images.png import IDAT_PLACE, join_chunks, pack_header
from nvae_codec.images.read import read_image
from nvae_codec.images.write import write_png
from nvae_codec.runtime import Runtime
from nvae_codec.zoo.library import ImageCodec, Models

__all__ = ["NvaeImageFile", "configure"]

FORMAT = "NVAE"

_BEGINNING = 1 << 16  # bytes: header and, nearly always, metadata
_MODES = frozenset(("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"))  # those that a PNG keeps without loss
_OWN = ("PNG", "JPEG", "WEBP")  # what an image may be kept as byte for byte
_OF_PNG = ("dpi", "exif", "icc_profile", "transparency")


def configure(
    model: str | Path | ImageCodec | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    batch_tiles: int | None = None,
) -> None:
    """Set how all images are decoded and saved from here on; the arguments are those of ``nvae_codec.load_model``.

    Without it the model ``photo`` saves and installed models decode. Models are loaded when first needed, and kept.

    Raises NvaeCodecError for other devices and for ``threads`` and ``batch_tiles`` below 1, and TypeError for what is
    no model or no number.
    """
    NvaeImageFile.models = Models(model, Runtime(device, threads, batch_tiles))


class NvaeImageFile(ImageFile.ImageFile):
    """An image in an .nvae file. Opening reads the beginning alone; checksums are verified when pixels are needed."""

    format = FORMAT
    format_description = "NVAE lossless image"

    models: ClassVar[Models] = Models()
    _decoded = False

    def _open(self) -> None:
        assert self.fp is not None
        beginning = self.fp.read(_BEGINNING)
        if beginning[:4] == MAGIC + bytes((VERSION, ARCHIVE)):
            raise OSError("an archive of images, not one: nvae_codec.open_archive reads it")
        try:
            shell = _open_shell(beginning)
        except (DamagedFileError, OSError, SyntaxError):
            try:
                shell = _open_shell(beginning + self.fp.read())
            except DamagedFileError as error:
                raise SyntaxError(str(error)) from error
        self._size, self._mode, self.info, self.palette = shell.size, shell.mode, shell.info, shell.palette

    def __setstate__(self, state: list[Any]) -> None:
        super().__setstate__(state)
        self._decoded = True  # what is pickled or copied is what was decoded

    def load(self) -> Any:
        """Decode the pixels; raises OSError for a damaged file, or where its model is missing."""
        if not self._decoded:
            pixels = self._decode()
            if self._exclusive_fp and self.fp is not None:
                self.fp.close()
            self.fp = io.BytesIO(pixels)
            self.tile = cast(Any, [("raw", (0, 0, *self.size), 0, self.mode)])
            self._decoded = True
        return super().load()

    def load_seek(self, pos: int) -> None:
        """Keep Pillow from mapping the file on disk, as it does for raw pixels: these are decoded ones."""

    def verify(self) -> None:
        """Check the file's checksum without decoding; raises OSError."""
        try:
            split_parts(self._read())
        except DamagedFileError as error:
            raise OSError(str(error)) from error
        super().verify()

    def _read(self) -> bytes:
        if self.fp is None:
            raise OSError("the file is closed")
        self.fp.seek(0)
        return self.fp.read()

    def _decode(self) -> bytes:
        """Pixels as Pillow's raw mode of the same name."""
        try:
            image = read_file(self._read(), self.models)
        except NvaeCodecError as error:
            raise OSError(str(error)) from error
        if image.pixels is not None and image.colour.is_8_bit:
            return image.pixels.tobytes()
        with Image.open(io.BytesIO(write_png(image)), formats=_OWN) as pil_image:
            pil_image.load()
            self.info.update(pil_image.info)  # with what stands behind the pixels
            return pil_image.tobytes()


def _open_shell(data: bytes) -> Image.Image:
    """A PNG of the image's size, colour and metadata, whose pixels are missing, or its own file.

    Raises DamagedFileError and what Pillow raises.
    """
    parts = split_beginning(data)
    header = parts.header
    if header.kind is Kind.FILE:
        return Image.open(io.BytesIO(parts.payload), formats=_OWN)
    chunks = unpack_metadata(parts.metadata) if parts.metadata else ()
    around = [chunk for chunk in chunks if chunk != IDAT_PLACE]
    shell = join_chunks([pack_header(header.width, header.height, header.colour), *around, IDAT_PLACE])
    return PngImagePlugin.PngImageFile(io.BytesIO(shell))


def _accept(prefix: bytes) -> bool | str:
    if not prefix.startswith(MAGIC):
        return False
    version = prefix[len(MAGIC)] if len(prefix) > len(MAGIC) else VERSION
    if version > VERSION:
        return f"an .nvae file of format version {version}; this nvae-codec reads version {VERSION}"
    return version == VERSION


def _save(pil_image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Save with ``model`` (a name, a path, or what ``load_model`` gave), ``method`` (auto, model, webp, stored),
    ``effort`` (1 to 9).

    Metadata as PNG takes it: ``exif``, ``icc_profile``, ``dpi``, ``transparency``, ``pnginfo``; and ``xmp``, str or
    bytes of UTF-8.
    """
    options = pil_image.encoderinfo
    if pil_image.mode not in _MODES:
        raise OSError(f"cannot write mode {pil_image.mode} as {FORMAT}")
    notes = PngImagePlugin.PngInfo()
    notes.chunks += options["pnginfo"].chunks if options.get("pnginfo") else []
    if options.get("xmp"):
        xmp = options["xmp"]
        notes.add_itxt("XML:com.adobe.xmp", xmp if isinstance(xmp, str) else str(xmp, "utf-8"))
    of_png = {name: options[name] for name in _OF_PNG if name in options}
    kept_as_file = pil_image.mode in ("1", "P", "I;16", "I;16B")  # then this PNG may be the payload
    buffer = io.BytesIO()
    # a copy, as the options of this save would go before those that are given here
    pil_image.copy().save(buffer, "PNG", pnginfo=notes, optimize=kept_as_file, compress_level=1, **of_png)
    models = NvaeImageFile.models if options.get("model") is None else Models(options["model"])
    try:
        image = read_image(buffer.getvalue())
        if not kept_as_file:
            image = replace(image, file=None)
        data = write_file(image, options.get("method", "auto"), models, options.get("effort", DEFAULT_EFFORT))
    except NvaeCodecError as error:
        raise OSError(str(error)) from error
    file.write(data)


Image.register_open(FORMAT, NvaeImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".nvae")
Image.register_mime(FORMAT, "image/x-nvae")
mimetypes.add_type("image/x-nvae", ".nvae")
