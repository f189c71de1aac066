"""Inflating what a file says is deflated, without believing it."""

from __future__ import annotations

import zlib

from nvae_codec.errors import DamagedFileError


def inflate(stream: bytes, most: int, what: str) -> bytes:
    """What a whole zlib stream holds, at most so many bytes; raises DamagedFileError, which names ``what``."""
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(stream, most)
    except zlib.error as error:
        raise DamagedFileError(f"damaged: its {what} cannot be inflated") from error
    if not inflater.eof or inflater.unused_data:
        raise DamagedFileError(f"damaged: its {what} is too long or cut off")
    return plain
