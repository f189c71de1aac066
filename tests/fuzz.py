"""Files made to harm: mutants of sound files, whose checksums are mended so that what lies behind them is reached.

``python -m tests.fuzz --cases 100000`` runs the long way; ``tests/test_fuzz.py`` a short one. A mutant may be refused
(NvaeCodecError) or read; anything else that is raised, more than --seconds for one, and memory above --megabytes, fail.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import signal
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import numpy as np

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.container.archive.index import (
    HEADER_BYTES,
    TRAILER_BYTES,
    Index,
    pack_index,
    read_index,
    segment_checksum,
)
from nvae_codec.container.archive.reader import Archive
from nvae_codec.container.archive.writer import write_archive
from nvae_codec.container.checksums import FILE_CHECKSUM_BYTES, bytes_checksum
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.errors import NvaeCodecError
from nvae_codec.images.raster import RasterImage
from nvae_codec.images.read import read_image
from nvae_codec.integer.model_file import read_model
from nvae_codec.schedule.shape import Shape
from nvae_codec.zoo.library import Models
from tests.conftest import PNGSUITE
from tests.models import make_image

GOLDEN = Path(__file__).parent / "golden"
TINY, CHECKED = GOLDEN / "tiny.safetensors", GOLDEN / "checked.nvae"
NUMBERS = (b"\0", b"\x7f", b"\x80", b"\xff\x7f", b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01")
"""Varints and lengths that readers like least."""


@dataclass(frozen=True)
class Target:
    """A sound file, how to read it, and how to mend a mutant's checksums (which may fail as reading may)."""

    name: str
    data: bytes
    read: Callable[[bytes], object]
    mend: Callable[[bytes, np.random.Generator], bytes]


def make_targets(folder: Path) -> list[Target]:
    """A file of each kind: single images, archives, a model, PNGs. ``folder`` holds what must lie on disk."""
    models = Models(ModelCodec(read_model(TINY)))
    image = RasterImage.from_pixels(make_image(40, 56))
    tagged = read_image((PNGSUITE / "ccwn2c08.png").read_bytes())
    deep = read_image((PNGSUITE / "basn6a16.png").read_bytes())
    palette = read_image((PNGSUITE / "tp1n3p08.png").read_bytes())
    single = {
        "model": (image, "model"), "tagged": (tagged, "model"), "deep": (deep, "model"),
        "webp": (image, "webp"), "palette": (palette, "webp"),
        "pixels": (image, "stored"), "png": (tagged, "stored"),
    }  # fmt: skip
    targets = [
        Target(name, write_file(*made_of, models), lambda data: read_file(data, models), _mend_file)
        for name, made_of in single.items()
    ]

    archive, model = folder / "archive.nvae", folder / "model.safetensors"
    with archive.open("wb") as out:
        groups = [[(f"{name}.png", image), (f"{name}/tagged.png", tagged)] for name in ("one", "two")]
        for _ in write_archive(out, groups, method="auto", models=models):
            pass

    def read_archive(data: bytes) -> None:
        archive.write_bytes(data)
        opened = Archive(archive, models)
        for place in reversed(range(len(opened))):  # of each segment the last alone, where it can be, and then all
            opened.read_image(place)

    def read_model_bytes(data: bytes) -> None:
        model.write_bytes(data)
        codec = ModelCodec(read_model(model))
        codec.decode([Shape(40, 56)], codec.encode([make_image(40, 56)]))

    for name, data in (("archive", archive.read_bytes()), ("checksums of batches", CHECKED.read_bytes())):
        targets.append(Target(name, data, read_archive, _mend_archive))
    targets.append(Target("model file", TINY.read_bytes(), read_model_bytes, lambda data, _: data))
    for name in ("basn6a08", "basi3p04", "basi2c16", "ctzn0g04"):
        targets.append(Target(f"{name}.png", (PNGSUITE / f"{name}.png").read_bytes(), read_image, _mend_png))
    return targets


def mutate(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One to three changes of bits, bytes, numbers, ranges and order."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        # half of the changes hit the first bytes, where most of the structure is
        reach = min(len(out), 64) if rng.random() < 0.5 else len(out)
        at = int(rng.integers(max(reach, 1)))
        end = at + int(rng.integers(1, 17))
        match rng.integers(8):
            case 0 if out:
                out[at] ^= 1 << int(rng.integers(8))
            case 1:
                out[at:end] = rng.bytes(end - at)
            case 2:
                number = NUMBERS[rng.integers(len(NUMBERS))]
                out[at : at + len(number)] = number
            case 3:
                out[at:at] = NUMBERS[rng.integers(len(NUMBERS))]
            case 4:
                del out[at:end]
            case 5:
                out[at:at] = out[at:end] * int(rng.integers(1, 40))
            case 6:
                del out[int(rng.integers(len(out) + 1)) :]
            case _:
                out[at:end] = other[at:end]
    return bytes(out)


def _mend_file(data: bytes, _: np.random.Generator) -> bytes:
    body = data[:-FILE_CHECKSUM_BYTES]
    return body + bytes_checksum(body)


def _mend_png(data: bytes, _: np.random.Generator) -> bytes:
    """Chunks whose lengths still hold get the checksum of what they now carry."""
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


def _mend_archive(data: bytes, rng: np.random.Generator) -> bytes:
    """Change the inflated index, or a segment with its checksum, of an archive that is sound but for its bytes."""
    if rng.random() < 0.5:
        head, rest = data[:HEADER_BYTES], data[HEADER_BYTES:-TRAILER_BYTES]
        length = int.from_bytes(data[-TRAILER_BYTES:-8], "little")
        if length <= len(rest):
            stream = rest[len(rest) - length :]
            with suppress(zlib.error):
                stream = zlib.compress(mutate(zlib.decompress(stream), stream, rng))
            rest = rest[: len(rest) - length] + stream
            tail = len(stream).to_bytes(8, "little")
            return head + rest + tail + segment_checksum(head + stream + tail)
    try:
        index = read_index(io.BytesIO(data))
    except NvaeCodecError:
        return data
    out, segments = bytearray(data[:HEADER_BYTES]), []
    for segment in index.segments:
        part = data[segment.start : segment.start + segment.length]
        if rng.random() < 0.7:
            part = mutate(part, data, rng) or b"\0"
        segments.append(replace(segment, start=len(out), length=len(part), checksum=segment_checksum(part)))
        out += part
    return bytes(out) + pack_index(Index(index.identity, tuple(segments)))


class TooLongError(Exception):
    """A mutant took more time than it may."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TooLongError from what takes longer. Whole seconds; of the main thread alone."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooLongError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attack(target: Target, other: bytes, seed: int, seconds: int) -> str:
    """Read one mutant; ``read`` or ``refused``. Raises what a reader must not raise."""
    rng = np.random.default_rng(seed)
    mutant = target.data
    if target.mend is not _mend_archive or rng.random() < 0.3:
        mutant = mutate(target.data, other, rng)
    if rng.random() < 0.9:
        mutant = target.mend(mutant, rng)
    try:
        with time_limit(seconds):
            target.read(mutant)
    except NvaeCodecError:
        return "refused"
    return "read"


def run(cases: int, first_seed: int = 0, seconds: int = 20) -> dict[str, dict[str, int]]:
    """Attack every target in turn; how many mutants of each were read and refused. Raises AssertionError."""
    counts: dict[str, Counter[str]] = {}
    with TemporaryDirectory() as folder:
        targets = make_targets(Path(folder))
        for case in range(cases):
            target, seed = targets[case % len(targets)], first_seed + case
            other = targets[seed // 7 % len(targets)].data
            try:
                outcome = attack(target, other, seed, seconds)
            except Exception as error:
                raise AssertionError(f"{target.name}, seed {seed}: {type(error).__name__}: {error}") from error
            counts.setdefault(target.name, Counter())[outcome] += 1
    return {name: dict(count) for name, count in counts.items()}


def main() -> None:
    """The long way, as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--megabytes", type=int, default=1024)
    arguments = parser.parse_args()
    counts = run(arguments.cases, arguments.seed, arguments.seconds)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"cases": arguments.cases, "seed": arguments.seed, "megabytes": memory, "of": counts}, indent=1))
    if memory > arguments.megabytes:
        raise SystemExit(f"memory: {memory} MB")


if __name__ == "__main__":
    main()
