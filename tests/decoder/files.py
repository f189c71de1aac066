"""*One image* and *Archives*."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from PIL import Image

from nvae_codec.integer.inference import exact_inference
from tests.decoder.batch import BatchDecoder
from tests.decoder.model import Model
from tests.decoder.stack import Ans
from tests.decoder.tiles import read_squares, read_tiles

Pixels = NDArray[np.uint8]
Decoded = tuple[Pixels, list[tuple[bytes, bytes]]]
"""An image and its chunks."""


class Bytes:
    """Fields one after another."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)


def xxh3(data: bytes, count: int = 8) -> bytes:
    whole: int = xxhash.xxh3_64_intdigest(data)
    return (whole & (1 << 8 * count) - 1).to_bytes(count, "little")


def content_checksum(pixels: Pixels, colour: int, low: Pixels | None = None) -> bytes:
    height, width = pixels.shape[:2]
    size = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return xxh3(size + bytes([colour]) + pixels.tobytes() + (b"" if low is None else low.tobytes()))


def decode_stack(
    sizes: list[tuple[int, int]], plan: list[int], payload: bytes, model: Model, gray: list[bool] | None = None
) -> list[Pixels]:
    """The images of (height, width) that share a stack: (H, W, C), C 1 for gray."""
    channels = model.description["channels"]
    gray = [channels == 1 or bool(gray and gray[index]) for index in range(len(sizes))]
    tiles, done = [], 0
    for _, _, _, index in sorted((h * w, h, gray[index], index) for index, (h, w) in enumerate(sizes)):
        side = model.description["side"]
        parts = read_squares(*sizes[index], side, plan[0]) if side else read_tiles(*sizes[index], plan[0], done)
        tiles += [(index, tile) for tile in parts]
        done += sizes[index][0] * sizes[index][1]
    ans, fill, batches = Ans(payload), 0, []
    checked, dense = plan[0] // 32, plan[0] // 16 % 2
    size = 3 + dense + checked
    for at in range(1, len(plan), size):
        count, *fills = plan[at : at + size]
        checksum = [fills.pop() for _ in range(checked)]
        chosen, tiles = tiles[:count], tiles[count:]
        codes = [(8 + c % 8) * 2 ** (c // 8) - 8 for c in fills]
        batches.append((chosen, codes, fill, checksum))
        fill = codes[-1]
    assert not tiles
    planes = [np.zeros((*size, channels), np.uint8) for size in sizes]
    with exact_inference(torch.device("cpu")):
        for number, (chosen, codes, fill, checksum) in reversed(list(enumerate(batches))):
            (colours,) = {gray[index] for index, _ in chosen}
            decoder = BatchDecoder(
                model, ans, len(chosen), chosen[0][1][2:], first=number == 0, dense=bool(dense), gray=colours
            )
            decoded = decoder.decode(codes[0], codes[1], fill)
            found = xxhash.xxh3_64_intdigest(decoded.astype(np.uint8).tobytes()) % 2**32
            assert checksum in ([], [found])
            for (index, (top, left, rows, columns)), pixels in zip(chosen, decoded, strict=True):
                planes[index][top : top + rows, left : left + columns] = pixels.transpose(1, 2, 0)
    assert (ans.state, ans.words) == (0, [])
    images = [np.empty_like(image) for image in planes]
    for image, coded in zip(images, planes, strict=True):
        image[:, :, model.description["colour_order"]] = coded
    return [image[:, :, :1] if one else image for image, one in zip(images, gray, strict=True)]


def decode_file(data: bytes, model: Model) -> NDArray[np.integer]:
    """*One image* of kind 1 without metadata: (H, W), or (H, W, C)."""
    colour = data[3] >> 3
    assert data[:4] == b"\xd6\x4e\x01" + bytes([1 | colour << 3])
    assert data[-4:] == xxh3(data[:-4], 4)
    assert data[4:8] == bytes.fromhex(model.metadata["identity"])[:4]
    fields = Bytes(data[8:-4])
    width, height = fields.varint(), fields.varint()
    plan = [fields.varint() for _ in range(fields.varint())]
    checksum = fields.take(8)
    blocks = take_blocks(fields, colour)
    coded = decode_stack([(height, width)], plan, fields.rest(), model, [colour in GRAY])[0]
    high, low = add_blocks(coded, colour, blocks)
    assert content_checksum(high, colour, low) == checksum
    whole: NDArray[np.integer] = high if low is None else 256 * high.astype(np.int64) + low
    return whole[:, :, 0] if whole.shape[2] == 1 else whole


GRAY, ALPHA, DEEP = (0, 3, 4, 11, 12), (11, 12, 13, 14), (4, 6, 12, 14)
"""Numbers of *Colours*."""


def take_blocks(fields: Bytes, colour: int) -> list[bytes]:
    """*Beside the model*."""
    return [fields.take(fields.varint()) for _ in range((colour in ALPHA) + (colour in DEEP))]


def add_blocks(coded: Pixels, colour: int, blocks: list[bytes]) -> tuple[Pixels, Pixels | None]:
    """High bytes, or all there are, and low ones, (H, W, C); ``coded``: without alpha."""
    high = coded
    if colour in ALPHA:
        high = np.dstack([coded, read_block(blocks[0], np.full_like(coded[:, :, :1], 255))])
    return high, read_block(blocks[-1], high) if colour in DEEP else None


def read_block(block: bytes, usual: Pixels) -> Pixels:
    if not block or block[0] == 3:
        return np.frombuffer(block, np.uint8, offset=1).reshape(usual.shape) if block else usual
    assert block[0] == 2
    stream = block[1:]
    size, padded = len(stream).to_bytes(4, "little"), stream + bytes(len(stream) % 2)
    riff = b"RIFF" + (12 + len(padded)).to_bytes(4, "little") + b"WEBPVP8L" + size + padded
    rgba = np.asarray(Image.open(io.BytesIO(riff)).convert("RGBA"))
    return rgba[:, :, {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[usual.shape[2]]]


def decode_archive(data: bytes, model: Model, shard: tuple[int, int, bytes] | None = None) -> dict[str, Decoded]:
    """*Archives* of images of kinds 1 and 3: pixels and chunks by name. ``shard``: what it must say that it is."""
    assert data[:4] == b"\xd6\x4e\x01\x07"
    assert data[4:36] == bytes.fromhex(model.metadata["identity"])
    length = int.from_bytes(data[-16:-8], "little")
    end = len(data) - 16 - length
    assert data[-8:] == xxh3(data[:36] + data[end:-8])
    index = Bytes(zlib.decompress(data[end:-16]))
    segments = [(index.varint(), index.varint(), index.take(8)) for _ in range(index.varint())]
    count = sum(images for _, images, _ in segments)
    names: list[str] = []
    for _ in range(count):
        name = index.take(index.varint()).decode()
        names.append(name or next_name(names[-1]))
    kinds = index.take(count)
    widths, heights = ([index.varint() for _ in range(count)] for _ in range(2))
    block = Bytes(read_extensions(index).get(3, b""))
    assert shard is None or (block.varint(), block.varint(), block.rest()) == shard
    sizes = list(zip(heights, widths, strict=True))
    found: dict[str, Decoded] = {}
    first, at = 0, 36
    for size, images, checksum in segments:
        segment, mine = data[at : at + size], slice(first, first + images)
        assert xxh3(segment) == checksum
        found.update(zip(names[mine], decode_segment(Bytes(segment), kinds[mine], sizes[mine], model), strict=True))
        first, at = first + images, at + size
    assert (at, first) == (end, count)
    return found


def next_name(name: str) -> str:
    """*Names*: the last run of digits counted up."""
    end = max(place for place, letter in enumerate(name) if letter in "0123456789") + 1
    start = end
    while start and name[start - 1] in "0123456789":
        start -= 1
    return name[:start] + str(int(name[start:end]) + 1).zfill(end - start) + name[end:]


def decode_segment(fields: Bytes, kinds: bytes, sizes: list[tuple[int, int]], model: Model) -> Iterator[Decoded]:
    checksum = fields.take(8)
    coded: Iterator[Pixels] = iter(())
    if any(kind & 7 == 1 for kind in kinds):
        plan = [fields.varint() for _ in range(fields.varint())]
        modelled = [size for kind, size in zip(kinds, sizes, strict=True) if kind & 7 == 1]
        gray = [kind >> 3 & 15 in GRAY for kind in kinds if kind & 7 == 1]
        coded = iter(decode_stack(modelled, plan, fields.take(fields.varint()), model, gray))
    images: list[Pixels] = []
    for kind, (height, width) in zip(kinds, sizes, strict=True):
        assert kind & 7 in (1, 3)
        if kind & 7 == 1:
            colour = kind >> 3 & 15
            high, low = add_blocks(next(coded), colour, take_blocks(fields, colour))
            assert low is None, "no archive of the tests has 16 bits"
            images.append(high.squeeze(2) if high.shape[2] == 1 else high)
        else:
            shape = (height, width, 3) if kind >> 3 & 15 == 5 else (height, width)
            images.append(np.frombuffer(fields.take(fields.varint()), np.uint8).reshape(shape))
    metadata = Bytes(zlib.decompress(read_extensions(fields).get(1, zlib.compress(b""))))
    contents = [content_checksum(pixels, kind >> 3 & 15) for pixels, kind in zip(images, kinds, strict=True)]
    assert xxh3(b"".join(contents)) == checksum
    for pixels, kind in zip(images, kinds, strict=True):
        yield pixels, list(read_chunks(Bytes(metadata.take(metadata.varint())))) if kind >> 7 else []
    assert metadata.rest() == b""


def read_extensions(fields: Bytes) -> dict[int, bytes]:
    """*Extension blocks* by type, to the end."""
    found: dict[int, bytes] = {}
    while fields.at < len(fields.data):
        head = fields.varint()
        found[head >> 2] = fields.take(fields.varint())
        assert head >> 2 in (1, 3) or not head & 2
        assert bool(head & 1) == (fields.at < len(fields.data))
    return found


def read_chunks(fields: Bytes) -> Iterator[tuple[bytes, bytes]]:
    while fields.at < len(fields.data):
        yield fields.take(4), fields.take(fields.varint())
