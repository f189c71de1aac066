"""A second PNG decoder, written from the specification alone: slow, and for sound files only."""

import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


class Decoded(NamedTuple):
    bits: int
    colour_type: int
    samples: NDArray[Any]  # (H, W, channels), uint16, at the file's own depth
    chunks: list[tuple[bytes, bytes]]  # all but IHDR, IDAT and IEND


def decode_png(data: bytes) -> Decoded:
    chunks, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    width, height, bits, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    raw = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    channels = CHANNELS[colour_type]
    samples = np.zeros((height, width, channels), np.uint16)
    at = 0
    for left, top, dx, dy in PASSES if interlace else [(0, 0, 1, 1)]:
        columns, rows = len(range(left, width, dx)), len(range(top, height, dy))
        if not columns or not rows:
            continue
        stride = (columns * channels * bits + 7) // 8
        lines = unfilter(raw[at : at + rows * (stride + 1)], rows, stride, max(1, channels * bits // 8))
        at += rows * (stride + 1)
        samples[top::dy, left::dx] = unpack(lines, columns * channels, bits).reshape(rows, columns, channels)
    assert at == len(raw)
    kept = [chunk for chunk in chunks if chunk[0] not in (b"IHDR", b"IDAT", b"IEND")]
    return Decoded(bits, colour_type, samples, kept)


def unfilter(raw: bytes, rows: int, stride: int, step: int) -> list[bytes]:
    lines: list[bytes] = []
    above = bytearray(stride)
    for row in range(rows):
        kind = raw[row * (stride + 1)]
        line = bytearray(raw[row * (stride + 1) + 1 : (row + 1) * (stride + 1)])
        for i in range(stride):
            a, b, c = (line[i - step] if i >= step else 0), above[i], (above[i - step] if i >= step else 0)
            line[i] = (line[i] + (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) & 255
        lines.append(bytes(line))
        above = line
    return lines


def paeth(a: int, b: int, c: int) -> int:
    distances = (abs(b - c), abs(a - c), abs(a + b - 2 * c))
    return (a, b, c)[distances.index(min(distances))]


def unpack(lines: list[bytes], count: int, bits: int) -> NDArray[Any]:
    if bits == 16:
        return np.stack([np.frombuffer(line, ">u2") for line in lines]).astype(np.uint16)
    if bits == 8:
        return np.stack([np.frombuffer(line, np.uint8) for line in lines]).astype(np.uint16)
    each = np.stack([np.unpackbits(np.frombuffer(line, np.uint8)) for line in lines])
    each = each[:, : count * bits].reshape(len(lines), count, bits)
    return (each @ (1 << np.arange(bits)[::-1])).astype(np.uint16)
