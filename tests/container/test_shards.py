"""Shards of one archive, made apart from each other, merge to the bytes of pack alone; nothing else merges."""

import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvae_codec.container.archive.index import Shard
from nvae_codec.container.archive.segment import Named
from nvae_codec.container.archive.shards import merge_shards, take_shard
from nvae_codec.container.archive.writer import group_images, write_archive
from nvae_codec.errors import NvaeCodecError
from nvae_codec.images.raster import RasterImage
from nvae_codec.zoo.library import Models
from tests.fakes import FakeCodec

Groups = list[list[Named]]


def make_groups(sizes: list[tuple[int, int]], most: int | None = 2, pixels: int = 200, first: int = 0) -> Groups:
    rng = np.random.default_rng(first)
    named = []
    for index, (height, width) in enumerate(sizes, first):
        named.append((f"{index:03d}.png", RasterImage.from_pixels(rng.integers(0, 9, (height, width, 3), np.uint8))))
    return list(group_images(named, most, pixels))


def write(groups: Groups, shard: Shard | None = None, *, method: str = "auto", model: str = "photo") -> bytes:
    out = io.BytesIO()
    for _ in write_archive(
        out, groups, method=method, models=Models(FakeCodec(model)), extensions=() if shard is None else (shard.pack(),)
    ):
        pass
    return out.getvalue()


def write_shards(folder: Path, groups: Groups, count: int, *, method: str = "auto", model: str = "photo") -> list[Path]:
    paths = []
    for number in range(1, count + 1):
        mine, shard = take_shard(groups, number, count, method)
        paths.append(folder / f"{number}.nvae")
        paths[-1].write_bytes(write(mine, shard, method=method, model=model))
    return paths


def merge(paths: list[Path]) -> bytes:
    out = io.BytesIO()
    merge_shards(paths, out)
    return out.getvalue()


SIZES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=20)


@settings(deadline=None, max_examples=25)
@given(SIZES, st.sampled_from([1, 3, None]), st.integers(1, 6), st.sampled_from(["auto", "stored"]), st.randoms())
def test_shards_merge_to_the_bytes_of_a_single_pack(
    sizes: list[tuple[int, int]], most: int | None, count: int, method: str, rng: random.Random
) -> None:
    groups = make_groups(sizes, most)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_shards(Path(folder), groups, count, method=method)
        rng.shuffle(paths)
        assert merge(paths) == write(groups, method=method)


@settings(deadline=None, max_examples=25)
@given(SIZES, st.integers(1, 6))
def test_shards_are_neighbours_and_about_as_large_as_each_other(sizes: list[tuple[int, int]], count: int) -> None:
    groups = make_groups(sizes)
    areas = [1 + sum(image.width * image.height for _, image in group) for group in groups]
    taken: Groups = []
    for number in range(1, count + 1):
        mine, shard = take_shard(groups, number, count, "")
        mine_area = sum(areas[len(taken) : len(taken) + len(mine)])
        assert mine_area <= sum(areas) / count + max(areas)
        assert str(shard) == f"{number}/{count}"
        taken += mine
    assert taken == groups


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """All shards of an archive."""
    return write_shards(tmp_path, make_groups([(5, 5)] * 12), 3)


def refuse(paths: list[Path], reason: str) -> None:
    with pytest.raises(NvaeCodecError, match=reason) as refused:
        merge(paths)
    assert "\n" not in str(refused.value)


def test_all_shards_must_be_there_each_once(three: list[Path], tmp_path: Path) -> None:
    refuse(three[1:], r"^shard 1/3 is missing$")
    refuse(three[1:2], r"^shard 1/3 is missing, and 1 more$")
    refuse([*three, three[1]], r"2.nvae: shard 2/3 is there twice, in .*2.nvae too")
    whole = tmp_path / "whole.nvae"
    whole.write_bytes(merge(three))
    refuse([*three, whole], "whole.nvae: it is a whole archive, not a shard")
    refuse([whole], "it is a whole")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sizes": [(5, 5)] * 11 + [(5, 6)]}, "of other inputs or options"),
        ({"first": 1}, "of other inputs or options"),
        ({"most": 3}, "of other inputs or options"),
        ({"method": "stored"}, "of other inputs or options"),
        ({"count": 4}, "of other inputs or options"),
        ({"model": "mnist"}, "of model .*, but .*/1.nvae of "),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_shards_of_something_else_are_refused(
    three: list[Path], tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    made: dict[str, object] = {
        "sizes": [(5, 5)] * 12,
        "most": 2,
        "first": 0,
        "method": "auto",
        "model": "photo",
    } | change
    groups = make_groups(made["sizes"], made["most"], first=made["first"])  # type: ignore[arg-type]
    (tmp_path / "other").mkdir()
    count, method, model = change.get("count", 3), made["method"], made["model"]
    others = write_shards(tmp_path / "other", groups, count, method=method, model=model)  # type: ignore[arg-type]
    refuse([three[0], others[1], three[2]], rf"other/2.nvae: .*{reason}")


def cut(data: bytearray) -> None:
    del data[-1]


def flip_in_segment(data: bytearray) -> None:
    data[50] ^= 1


def flip_in_index(data: bytearray) -> None:
    data[-30] ^= 1


def flip_in_magic(data: bytearray) -> None:
    data[0] ^= 1


@pytest.mark.parametrize("damage", [cut, flip_in_segment, flip_in_index, flip_in_magic])
def test_damaged_shards_are_refused(three: list[Path], damage: Callable[[bytearray], None]) -> None:
    data = bytearray(three[1].read_bytes())
    damage(data)
    three[1].write_bytes(data)
    refuse(three, r"2.nvae: ")


def test_no_images_are_no_archive(tmp_path: Path) -> None:
    refuse(write_shards(tmp_path, [[], []], 2), "no image in any of the shards")
