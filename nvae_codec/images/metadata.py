"""What of an image's metadata is kept: all of it, byte for byte, or what its pixels mean, or nothing."""

from dataclasses import replace

from nvae_codec.errors import UnsupportedImageError
from nvae_codec.images.png import IDAT_PLACE, SIGNATURE, join_chunks, pack_header, parse_png
from nvae_codec.images.raster import Chunk, RasterImage
from nvae_codec.images.read import read_image

KEEP = ("all", "meaning", "none")

OF_PIXELS = frozenset((b"IDAT", b"PLTE", b"tRNS"))
"""Chunks that are part of the image: where its pixels stand, palette, transparency."""
OF_MEANING = OF_PIXELS | {
    b"cICP", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"mDCV", b"cLLI",  # what colours the values are
    b"pHYs", b"eXIf", b"bKGD",  # how large and which way up it is shown, and on what
}  # fmt: skip


def keep_metadata(image: RasterImage, keep: str) -> RasterImage:
    """The image with the metadata that one of ``KEEP`` says; where nothing goes, its file stays as it is.

    ``meaning`` drops text, XMP, times, thumbnails, private chunks, and data behind a PNG's end; EXIF data, which hold
    which way up an image is, stay whole.
    """
    if keep == "all":
        return image
    image = replace(image, modified=None)
    kept = OF_MEANING if keep == "meaning" else OF_PIXELS
    if image.file is None or not image.file.startswith(SIGNATURE):
        if image.pixels is None:
            raise UnsupportedImageError(f"it {image.why_file_only}, which only --metadata all keeps")
        chunks = tuple(chunk for chunk in image.chunks if chunk.type in kept)
        return replace(image, chunks=chunks if len(chunks) > 1 else (), file=None, not_in_pixels="")
    png = parse_png(image.file)
    if all(chunk.type in kept for chunk in png.chunks) and not png.trailing:
        return image
    header = pack_header(png.width, png.height, png.colour, interlaced=png.interlaced)
    stream = Chunk(b"IDAT", png.pixel_stream)
    around = [stream if chunk == IDAT_PLACE else chunk for chunk in png.chunks if chunk.type in kept]
    return read_image(join_chunks([header, *around, Chunk(b"IEND", b"")]))
