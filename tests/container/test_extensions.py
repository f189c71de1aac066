"""Extension blocks: what a reader does with those that it does not know, in a file, a segment and an archive."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nvae_codec.container.archive.index import Index, pack_index, read_index, segment_checksum
from nvae_codec.container.archive.reader import Archive
from nvae_codec.container.archive.shards import merge_shards, take_shard
from nvae_codec.container.archive.writer import group_images
from nvae_codec.container.extensions import Extension, Extensions, pack_extensions, read_extensions
from nvae_codec.container.fields import ByteReader
from nvae_codec.container.header import Parts, join_parts, split_parts
from nvae_codec.container.image import read_file
from nvae_codec.container.methods import write_file
from nvae_codec.errors import DamagedFileError, NvaeCodecError
from nvae_codec.images.raster import RasterImage, same_image
from nvae_codec.zoo.library import Models
from tests.fakes import FakeCodec, OneCodec, write_archive_file
from tests.models import make_image

MODELS = Models(FakeCodec("photo"))
IMAGE = RasterImage.from_pixels(make_image(9, 12))
ANCILLARY, CRITICAL = Extension(70, b"of later"), Extension(71, b"of later", critical=True)
REFUSED = "it needs extension block 71, which this nvae-codec does not know: a newer one may read it"


def with_blocks(file: bytes, blocks: Extensions) -> bytes:
    parts = split_parts(file)
    return join_parts(Parts(replace(parts.header, extensions=blocks), parts.payload))


@pytest.mark.parametrize("method", ["model", "webp", "stored"])
def test_a_file_with_unknown_blocks(method: str) -> None:
    codecs = OneCodec(FakeCodec("photo"))
    file = write_file(IMAGE, method, codecs)
    extended = with_blocks(file, (ANCILLARY, replace_type(ANCILLARY, 90)))
    assert len(extended) == len(file) + 2 * (2 + 1 + len(ANCILLARY.data))
    assert same_image(read_file(extended, codecs), IMAGE)
    with pytest.raises(DamagedFileError, match=REFUSED):
        read_file(with_blocks(file, (ANCILLARY, CRITICAL)), codecs)


def replace_type(block: Extension, number: int) -> Extension:
    return block._replace(type=number)


def write(path: Path, blocks: Extensions = (), name: str = "a.png", base: Archive | None = None) -> Archive:
    groups = [[(name, IMAGE)]]
    write_archive_file(path, groups, method="model", models=MODELS, base=base, extensions=blocks)
    return Archive(path, MODELS)


def test_an_archive_with_unknown_blocks(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.nvae", (ANCILLARY,))
    assert archive.extensions == (ANCILLARY,)
    assert same_image(archive.read_image(0), IMAGE)
    with pytest.raises(DamagedFileError, match=REFUSED):
        write(tmp_path / "b.nvae", (CRITICAL,))


def extend_segment(path: Path, blocks: Extensions) -> Archive:
    """Append blocks to the only segment of an archive."""
    data = path.read_bytes()
    index = read_index(io.BytesIO(data))
    (segment,) = index.segments
    extended = data[segment.start : segment.start + segment.length] + pack_extensions(blocks)
    segment = replace(segment, length=len(extended), checksum=segment_checksum(extended))
    path.write_bytes(data[: segment.start] + extended + pack_index(Index(index.identity, (segment,), index.extensions)))
    return Archive(path, MODELS)


def test_a_segment_with_unknown_blocks(tmp_path: Path) -> None:
    write(tmp_path / "a.nvae")
    assert same_image(extend_segment(tmp_path / "a.nvae", (ANCILLARY,)).read_image(0), IMAGE)
    write(tmp_path / "b.nvae")
    with pytest.raises(DamagedFileError, match=REFUSED):
        extend_segment(tmp_path / "b.nvae", (CRITICAL,)).read_image(0)


def test_appending_keeps_ancillary_blocks(tmp_path: Path) -> None:
    write(tmp_path / "a.nvae", (ANCILLARY,))
    before = extend_segment(tmp_path / "a.nvae", (replace_type(ANCILLARY, 64),))
    segment = before.segments[0]
    kept = before.path.read_bytes()[segment.start : segment.start + segment.length]
    after = write(tmp_path / "a.nvae", name="b.png", base=before)
    assert after.extensions == (ANCILLARY,)
    assert after.path.read_bytes()[segment.start : segment.start + segment.length] == kept
    assert same_image(after.read_image("b.png"), IMAGE)


def write_shards(folder: Path, blocks: Sequence[Extensions]) -> list[Path]:
    named = [(f"{i}.png", RasterImage.from_pixels(np.full((3, 3), i, np.uint8))) for i in range(4)]
    paths = []
    for number, own in enumerate(blocks, 1):
        mine, shard = take_shard(list(group_images(named, 1, 1 << 20)), number, len(blocks), "")
        paths.append(folder / f"{number}.nvae")
        write_archive_file(paths[-1], mine, method="stored", models=MODELS, extensions=(shard.pack(), *own))
    return paths


def test_merging_keeps_ancillary_blocks(tmp_path: Path) -> None:
    other, out = replace_type(ANCILLARY, 80), io.BytesIO()
    merge_shards(write_shards(tmp_path, [(ANCILLARY,), (ANCILLARY, other)]), out)
    index = read_index(out)
    assert index.extensions == (ANCILLARY, other)
    assert index.shard is None
    with pytest.raises(NvaeCodecError, match=r"2.nvae .* different extension blocks \(type 70\)"):
        merge_shards(write_shards(tmp_path, [(ANCILLARY,), (Extension(70, b"another"),)]), io.BytesIO())


@pytest.mark.parametrize(
    "data",
    [
        pack_extensions([ANCILLARY, ANCILLARY]),
        pack_extensions([replace_type(ANCILLARY, 80), ANCILLARY]),
        pack_extensions([replace_type(ANCILLARY, 0)]),
        pack_extensions([Extension(1, b"metadata is critical")]),
        pack_extensions([ANCILLARY, replace_type(ANCILLARY, 80)])[:-1],
        pack_extensions([ANCILLARY])[:0],
    ],
)
def test_damaged_blocks_are_refused(data: bytes) -> None:
    with pytest.raises(DamagedFileError):
        read_extensions(ByteReader(data))
