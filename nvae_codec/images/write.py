"""Write a picture as a PNG file, with the chunks that it came with."""

import io

import numpy as np
from PIL import Image

from nvae_codec.images.png import IDAT_PLACE, join_chunks, pack_header, pack_pixels, pack_places, split_chunks
from nvae_codec.images.raster import Chunk, Picture

_COMPRESS_LEVEL = 3  # on photographs smaller than 6, and twice as fast


def write_png(picture: Picture) -> bytes:
    """The picture as the bytes of a PNG file of its own colour and depth; one kept as a file is that file."""
    if picture.pixels is None:
        if picture.png is None:
            raise ValueError("a picture without pixels and without its file")
        return picture.png
    if picture.low is not None:
        size = picture.height, picture.width
        samples = np.stack([picture.pixels.reshape(*size, -1), picture.low.reshape(*size, -1)], -1)
        header = pack_header(picture.width, picture.height, picture.colour)
        pixels, end = [pack_pixels(samples.reshape(*size, -1))], Chunk(b"IEND", b"")
    elif not picture.colour.is_8_bit:
        header = pack_header(picture.width, picture.height, picture.colour)
        pixels, end = [pack_places(picture.pixels, picture.colour.bits)], Chunk(b"IEND", b"")
    else:
        buffer = io.BytesIO()
        Image.fromarray(picture.pixels).save(buffer, "PNG", compress_level=_COMPRESS_LEVEL)
        header, *pixels, end = split_chunks(buffer.getvalue())
    if not picture.chunks:
        return join_chunks([header, *pixels, end])
    chunks: list[Chunk] = [header]
    for chunk in picture.chunks:
        chunks += pixels if chunk == IDAT_PLACE else [chunk]
    return join_chunks([*chunks, end])
