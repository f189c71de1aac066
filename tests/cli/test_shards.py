"""nvae-codec pack --shard and merge."""

import json
from pathlib import Path

import pytest
from PIL import Image

import nvae_codec
from tests.cli.conftest import Run
from tests.models import make_image, save_images


@pytest.fixture
def half_broken(tmp_path: Path) -> Path:
    """In segments of two: one as it should be, two of which nothing can be read, and half of one."""
    folder = tmp_path / "half"
    folder.mkdir()
    for name in ("a0", "a1", "c0", "c1", "d0", "d1"):
        Image.fromarray(make_image(8, 9, ord(name[0]))).save(folder / f"{name}.png")
    for name in ("b0", "b1", "d1"):
        (folder / f"{name}.png").write_bytes(b"no image")
    for name in ("c0", "c1"):  # their headers are sound
        path = folder / f"{name}.png"
        path.write_bytes(path.read_bytes()[:60])
    return folder


@pytest.mark.usefixtures("fake_models")
@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_shards_of_a_folder_that_is_half_broken(run: Run, half_broken: Path, tmp_path: Path, count: int) -> None:
    alone, merged = tmp_path / "alone.nvae", tmp_path / "merged.nvae"
    whole = run("pack", half_broken, "-o", alone, "--segment", 2)
    assert whole.code == 1
    assert [line.split(".png")[0][-2:] for line in whole.error_lines] == ["b0", "b1", "c0", "c1", "d1"]
    archive = nvae_codec.open_archive(alone)
    assert [[entry.name for entry in segment.entries] for segment in archive.segments] == [
        ["a0.png", "a1.png"],
        ["d0.png"],
    ]
    shards = [tmp_path / f"{number}.nvae" for number in range(1, count + 1)]
    lines = []
    for number, shard in enumerate(shards, 1):
        part = run("pack", half_broken, "-o", shard, "--segment", 2, "--shard", f"{number}/{count}")
        assert part.code == int(bool(part.error_lines))
        lines += part.error_lines
        assert json.loads(run("list", shard, "--json").out)["shard"] == f"{number}/{count}"
        assert run("test", shard).code == 0
    assert lines == whole.error_lines
    result = run("merge", *reversed(shards), "-o", merged, "-v")
    assert (result.code, result.error_lines) == (0, [])
    assert f"{merged}: 3 images, {alone.stat().st_size} bytes\n" in result.err
    assert merged.read_bytes() == alone.read_bytes()
    assert json.loads(run("list", merged, "--json").out)["shard"] is None


@pytest.mark.usefixtures("fake_models")
def test_what_cannot_be_merged_leaves_nothing(run: Run, tmp_path: Path) -> None:
    save_images(tmp_path / "in", 4, 8)
    shards = [tmp_path / f"{number}.nvae" for number in (1, 2)]
    for number, shard in enumerate(shards, 1):
        assert run("pack", tmp_path / "in", "-o", shard, "--segment", 1, "--shard", f"{number}/2").code == 0
    merged = tmp_path / "merged.nvae"
    before = sorted(tmp_path.iterdir())
    one = run("merge", shards[0], "-o", merged)
    assert (one.code, one.error_lines) == (1, ["nvae-codec: shard 2/2 is missing"])
    data = bytearray(shards[1].read_bytes())
    data[40] ^= 1
    shards[1].write_bytes(data)
    damaged = run("merge", *shards, "-o", merged)
    assert (damaged.code, len(damaged.error_lines)) == (1, 1)
    assert f"{shards[1]}: damaged" in damaged.err
    assert sorted(tmp_path.iterdir()) == before
    occupied = run("merge", *shards, "-o", shards[0])
    assert (occupied.code, occupied.error_lines) == (1, [f"nvae-codec: {shards[0]} exists already (-f overwrites it)"])
    appended = run("pack", tmp_path / "in", "-o", shards[0], "--append")
    assert (appended.code, "it is shard 1/2" in appended.err) == (1, True)


@pytest.mark.usefixtures("fake_models")
def test_a_duplicate_name_is_reported_by_the_first_shard(run: Run, tmp_path: Path) -> None:
    save_images(tmp_path / "in", 3, 8)
    lines = []
    for number in (1, 2):
        how = ("-o", tmp_path / f"{number}.nvae", "--segment", 1, "--shard", f"{number}/2")
        lines.append(len(run("pack", tmp_path / "in", tmp_path / "in", *how).error_lines))
    assert lines == [3, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--shard", "0/3"),
        ("--shard", "4/3"),
        ("--shard", "3"),
        ("--shard", "-1/2"),
        ("--shard", "1/2", "--append"),
        ("--ray", "auto", "--workers", "2"),
    ],
)
def test_wrong_usage(run: Run, tmp_path: Path, wrong: tuple[str, ...]) -> None:
    save_images(tmp_path / "in", 1, 8)
    assert run("pack", tmp_path / "in", "-o", tmp_path / "a.nvae", *wrong).code == 2
    assert not (tmp_path / "a.nvae").exists()
