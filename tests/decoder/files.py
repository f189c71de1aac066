"""*One image* and *Archives*, of every kind but 4, 5 and 6."""

import io
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

from tests.decoder.batch import BatchDecoder
from tests.decoder.model import Model
from tests.decoder.stack import Ans
from tests.decoder.tiles import read_squares, read_tiles

Pixels = NDArray[np.uint8]
GRAY, RGB, ALPHA, DEEP = (0, 3, 4, 11, 12), (5, 6, 13, 14), (11, 12, 13, 14), (4, 6, 12, 14)
"""Numbers of *Colours*."""


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
        while (byte := self.take(1)[0]) > 127:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def varints(self) -> list[int]:
        return [self.varint() for _ in range(self.varint())]

    def sized(self) -> bytes:
        return self.take(self.varint())

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def rest(self) -> bytes:
        return self.take(self.left)


class Decoded(NamedTuple):
    """An image's samples, (H, W) or (H, W, C), and its chunks."""

    samples: NDArray[np.integer]
    chunks: list[tuple[bytes, bytes]]


def xxh3(data: bytes, count: int = 8) -> bytes:
    whole: int = xxhash.xxh3_64_intdigest(data)
    return (whole & (1 << 8 * count) - 1).to_bytes(count, "little")


def read_extensions(fields: Bytes) -> dict[int, bytes]:
    """*Extension blocks* by type."""
    found: dict[int, bytes] = {}
    follows = 1
    while follows:
        head = fields.varint()
        follows = head & 1
        assert head >> 2 > max(found, default=0)
        assert head >> 2 in (1, 3) or not head & 2, "a critical block that is unknown"
        found[head >> 2] = fields.sized()
    return found


def read_chunks(stream: bytes) -> list[tuple[bytes, bytes]]:
    fields, chunks = Bytes(stream), []
    while fields.left:
        chunks.append((fields.take(4), fields.sized()))
    return chunks


def decode_stack(
    sizes: Sequence[tuple[int, int]], plan: list[int], payload: bytes, model: Model, gray: Sequence[bool] = ()
) -> list[Pixels]:
    """The images of (height, width) that share a stack: (H, W, C), C 1 for gray."""
    channels, side = model.description["channels"], model.description["side"]
    gray = [channels == 1 or bool(gray and gray[index]) for index in range(len(sizes))]
    tiles, done = [], 0
    for _, _, _, index in sorted((h * w, h, gray[index], index) for index, (h, w) in enumerate(sizes)):
        parts = read_squares(*sizes[index], side, plan[0]) if side else read_tiles(*sizes[index], plan[0], done)
        tiles += [(index, tile) for tile in parts]
        done += sizes[index][0] * sizes[index][1]
    checked, dense = plan[0] // 32, plan[0] // 16 % 2
    batches, last = [], 0
    for at in range(1, len(plan), 3 + dense + checked):
        count, *codes = plan[at : at + 3 + dense]
        chosen, tiles = tiles[:count], tiles[count:]
        before, after, *end = ((8 + c % 8) * 2 ** (c // 8) - 8 for c in codes)
        batches.append((chosen, (before, after, last), plan[at + 3 + dense : at + 3 + dense + checked]))
        last = end[0] if dense else after
    assert not tiles
    ans, coded = Ans(payload), [np.zeros((*size, channels), np.uint8) for size in sizes]
    for number, (chosen, stack_sizes, checksum) in reversed(list(enumerate(batches))):
        (colours,) = {gray[index] for index, _ in chosen}
        size = chosen[0][1][2:]
        decoder = BatchDecoder(model, ans, len(chosen), size, first=not number, dense=bool(dense), gray=colours)
        levels = decoder.decode(*stack_sizes).astype(np.uint8)
        assert checksum in ([], [xxhash.xxh3_64_intdigest(levels.tobytes()) % 2**32])
        for (index, (top, left, rows, columns)), tile in zip(chosen, levels, strict=True):
            coded[index][top : top + rows, left : left + columns] = tile.transpose(1, 2, 0)
    assert (ans.state, ans.words) == (0, [])
    images = [np.empty_like(image) for image in coded]
    for image, ordered in zip(images, coded, strict=True):
        image[:, :, model.description["colour_order"]] = ordered
    return [image[:, :, :1] if one else image for image, one in zip(images, gray, strict=True)]


class Samples:
    """The high and low bytes, (H, W, C), of an image of a colour."""

    def __init__(self, high: Pixels, colour: int, planes: Sequence[bytes] = ()) -> None:
        """``planes``: what the model did not code."""
        if colour in ALPHA and planes:
            high = np.dstack([high, read_plane(planes[0], np.full_like(high[:, :, :1], 255))])
        self.high, self.colour = high, colour
        self.low = read_plane(planes[-1], high) if colour in DEEP else None

    def checksum(self) -> bytes:
        height, width = self.high.shape[:2]
        size = width.to_bytes(4, "little") + height.to_bytes(4, "little")
        low = b"" if self.low is None else self.low.tobytes()
        return xxh3(size + bytes([self.colour]) + self.high.tobytes() + low)

    def join(self) -> NDArray[np.integer]:
        whole: NDArray[np.integer] = self.high if self.low is None else 256 * self.high.astype(np.int64) + self.low
        return whole[:, :, 0] if whole.shape[2] == 1 else whole


def read_plane(block: bytes, usual: Pixels) -> Pixels:
    return read_payload(block[0], block[1:], usual.shape) if block else usual


def read_payload(kind: int, payload: bytes, shape: tuple[int, ...]) -> Pixels:
    """Kinds 2 and 3, (H, W, C)."""
    if kind == 3:
        return np.frombuffer(payload, np.uint8).reshape(shape)
    assert kind == 2
    size, padded = len(payload).to_bytes(4, "little"), payload + bytes(len(payload) % 2)
    riff = b"RIFF" + (12 + len(padded)).to_bytes(4, "little") + b"WEBPVP8L" + size + padded
    rgba = np.asarray(Image.open(io.BytesIO(riff)).convert("RGBA"))
    return rgba[:, :, {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[shape[2]]]


def take_planes(fields: Bytes, colour: int) -> list[bytes]:
    return [fields.sized() for _ in range((colour in ALPHA) + (colour in DEEP))]


def channels_of(colour: int) -> int:
    return (3 if colour in RGB else 1) + (colour in ALPHA)


def decode_file(data: bytes, model: Model) -> Decoded:
    """*One image*."""
    assert data[:3] == b"\xd6\x4e\x01"
    assert data[-4:] == xxh3(data[:-4], 4)
    kind, colour = data[3] & 7, data[3] >> 3 & 15
    fields = Bytes(data[4:-4])
    assert kind != 1 or fields.take(4) == model.identity[:4]
    width, height = fields.varint(), fields.varint()
    plan = fields.varints() if kind == 1 else []
    checksum = fields.take(8)
    metadata = read_extensions(fields).get(1) if data[3] >> 7 else None
    if kind == 1:
        planes = take_planes(fields, colour)
        high = decode_stack([(height, width)], plan, fields.rest(), model, [colour in GRAY])[0]
        samples = Samples(high, colour, planes)
    else:
        samples = Samples(read_payload(kind, fields.rest(), (height, width, channels_of(colour))), colour)
    assert samples.checksum() == checksum
    assert metadata is None or metadata[-4:] == xxh3(metadata[:-4], 4)
    return Decoded(samples.join(), read_chunks(zlib.decompress(metadata[:-4])) if metadata else [])


def decode_archive(data: bytes, model: Model, shard: tuple[int, int, bytes] | None = None) -> dict[str, Decoded]:
    """*Archives*: images by name. ``shard``: what the archive must say that it is."""
    assert data[:4] == b"\xd6\x4e\x01\x07"
    assert data[4:36] == model.identity
    end = len(data) - 16 - int.from_bytes(data[-16:-8], "little")
    assert data[-8:] == xxh3(data[:36] + data[end:-8])
    index = Bytes(zlib.decompress(data[end:-16]))
    segments = [(index.varint(), index.varint(), index.take(8)) for _ in range(index.varint())]
    count = sum(images for _, images, _ in segments)
    names: list[str] = []
    for _ in range(count):
        names.append(index.sized().decode() or next_name(names[-1]))
    kinds = index.take(count)
    widths, heights = ([index.varint() for _ in range(count)] for _ in range(2))
    block = Bytes(read_extensions(index)[3] if index.left else b"")
    assert (block.varint(), block.varint(), block.rest()) == shard if shard else not block.left
    sizes = list(zip(heights, widths, strict=True))
    images, at = list[Decoded](), 36
    for size, here, checksum in segments:
        segment, mine = data[at : at + size], slice(len(images), len(images) + here)
        assert xxh3(segment) == checksum
        images += decode_segment(Bytes(segment), kinds[mine], sizes[mine], model)
        at += size
    assert (at, len(images)) == (end, count)
    return dict(zip(names, images, strict=True))


def next_name(name: str) -> str:
    """The last run of digits increased by one."""
    end = max(place for place, letter in enumerate(name) if letter in "0123456789") + 1
    start = end
    while start and name[start - 1] in "0123456789":
        start -= 1
    return name[:start] + str(int(name[start:end]) + 1).zfill(end - start) + name[end:]


def decode_segment(fields: Bytes, kinds: bytes, sizes: Sequence[tuple[int, int]], model: Model) -> list[Decoded]:
    checksum = fields.take(8)
    modelled = [(size, kind >> 3 & 15 in GRAY) for kind, size in zip(kinds, sizes, strict=True) if kind & 7 == 1]
    coded = iter(list[Pixels]())
    if modelled:
        plan, shapes = fields.varints(), [size for size, _ in modelled]
        coded = iter(decode_stack(shapes, plan, fields.sized(), model, [gray for _, gray in modelled]))
    images = []
    for kind, (height, width) in zip(kinds, sizes, strict=True):
        colour = kind >> 3 & 15
        if kind & 7 == 1:
            planes = take_planes(fields, colour)
            images.append(Samples(next(coded), colour, planes))
        else:
            images.append(Samples(read_payload(kind & 7, fields.sized(), (height, width, channels_of(colour))), colour))
    metadata = Bytes(zlib.decompress(read_extensions(fields)[1]) if fields.left else b"")
    assert not fields.left
    assert xxh3(b"".join(image.checksum() for image in images)) == checksum
    chunks = [read_chunks(metadata.sized()) if kind >> 7 else [] for kind in kinds]
    assert not metadata.left
    return [Decoded(image.join(), own) for image, own in zip(images, chunks, strict=True)]
