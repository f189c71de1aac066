"""Write a picture as a PNG file, with the chunks that it came with."""

import io

from PIL import Image

from nvae_codec.images.picture import Chunk, Picture
from nvae_codec.images.png import IDAT_PLACE, join_chunks, split_chunks

_COMPRESS_LEVEL = 3  # on photographs smaller than 6, and twice as fast


def write_png(picture: Picture) -> bytes:
    """The picture as the bytes of a PNG file of its own colour and depth; one kept as a file is that file."""
    if picture.pixels is None:
        if picture.png is None:
            raise ValueError("a picture without pixels and without its file")
        return picture.png
    buffer = io.BytesIO()
    shown = picture.pixels.astype(bool) if picture.colour.bits == 1 else picture.pixels
    Image.fromarray(shown).save(buffer, "PNG", compress_level=_COMPRESS_LEVEL)
    header, *pixels, end = split_chunks(buffer.getvalue())
    if not picture.chunks:
        return join_chunks([header, *pixels, end])
    chunks: list[Chunk] = [header]
    for chunk in picture.chunks:
        chunks += pixels if chunk == IDAT_PLACE else [chunk]
    return join_chunks([*chunks, end])
