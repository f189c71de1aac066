"""Write an image as a PNG file, with the chunks that it came with."""

import io

import numpy as np
from PIL import Image

from nvae_codec.images.png import IDAT_PLACE, join_chunks, pack_header, pack_pixels, pack_places, split_chunks
from nvae_codec.images.raster import Chunk, RasterImage

_COMPRESS_LEVEL = 3  # on photographs smaller than 6, and twice as fast


def write_png(image: RasterImage) -> bytes:
    """The image as a PNG file of its own colour and depth; one that is kept as a file is that file, maybe a JPEG."""
    if image.pixels is None:
        if image.file is None:
            raise ValueError("an image without pixels and without its file")
        return image.file
    if image.low is not None:
        size = image.height, image.width
        samples = np.stack([image.pixels.reshape(*size, -1), image.low.reshape(*size, -1)], -1)
        header = pack_header(image.width, image.height, image.colour)
        pixels, end = [pack_pixels(samples.reshape(*size, -1))], Chunk(b"IEND", b"")
    elif not image.colour.is_8_bit:
        header = pack_header(image.width, image.height, image.colour)
        pixels, end = [pack_places(image.pixels, image.colour.bits)], Chunk(b"IEND", b"")
    else:
        buffer = io.BytesIO()
        Image.fromarray(image.pixels).save(buffer, "PNG", compress_level=_COMPRESS_LEVEL)
        header, *pixels, end = split_chunks(buffer.getvalue())
    if not image.chunks:
        return join_chunks([header, *pixels, end])
    chunks: list[Chunk] = [header]
    for chunk in image.chunks:
        chunks += pixels if chunk == IDAT_PLACE else [chunk]
    return join_chunks([*chunks, end])
