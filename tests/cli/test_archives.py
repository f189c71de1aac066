"""nvae-codec pack, unpack, list; and what decompress, info and test do with an archive."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

import nvae_codec
import nvae_codec.coding.codec as codec_module
from nvae_codec.cli.unpack import name_restored
from nvae_codec.coding.bitsback import decode_batch
from nvae_codec.container.archive.index import Entry
from nvae_codec.container.header import Kind
from nvae_codec.images.png import SIGNATURE, join_chunks
from nvae_codec.images.raster import RGB8, Chunk, same_image
from nvae_codec.images.read import read_image
from nvae_codec.zoo.library import read_model_info
from tests.cli.conftest import Run
from tests.conftest import PNGSUITE
from tests.models import make_image, save_images

MODEL = Path(__file__).parents[1] / "golden" / "tiny.safetensors"
ON_TINY = ("--model", MODEL, "--device", "cpu")


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pixels_of(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Images of several kinds in folders."""
    folder = tmp_path / "tree"
    save_images(folder / "deep" / "er", 2, 24)
    for name in ("basn0g16.png", "ccwn2c08.png", "tbbn3p08.png"):
        (folder / name).write_bytes((PNGSUITE / name).read_bytes())
    Image.fromarray(make_image(16, 16)).save(folder / "photo.bmp")
    return folder


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Nine images of one size in an .npz file."""
    path = tmp_path / "some.npz"
    np.savez(path, images=np.stack([make_image(16, 20, seed) for seed in range(9)]))
    return path


@pytest.mark.usefixtures("fake_models")
def test_what_metadata_go_along(run: Run, tmp_path: Path) -> None:
    source = (PNGSUITE / "ccwn2c08.png").read_bytes()
    text = join_chunks([Chunk(b"tEXt", b"Title\0x")])[len(SIGNATURE) :]
    (tmp_path / "a.png").write_bytes(source[:-12] + text + source[-12:])
    expected = {"all": {b"cHRM", b"gAMA", b"tEXt"}, "meaning": {b"cHRM", b"gAMA"}, "none": set()}
    for keep, kinds in expected.items():
        archive, back = tmp_path / f"{keep}.nvae", tmp_path / keep
        assert run("pack", tmp_path / "a.png", "-o", archive, "--metadata", keep).error_lines == []
        assert run("unpack", archive, "-o", back).error_lines == []
        restored = (back / "a.png").read_bytes()
        assert {kind for kind in (b"cHRM", b"gAMA", b"tEXt") if kind in restored} == kinds
        assert np.array_equal(pixels_of(back / "a.png"), pixels_of(tmp_path / "a.png"))


def test_one_image_costs_only_the_batches_after_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "some.npz", images=np.stack([make_image(64, 64, seed) for seed in range(40)]))
    archive, back, batches = tmp_path / "some.nvae", tmp_path / "back", list[object]()

    def count(*rest: Any) -> None:
        batches.append(rest[1])
        decode_batch(*rest)

    assert run("pack", tmp_path / "some.npz", "-o", archive, "--method", "model", *ON_TINY).error_lines == []
    monkeypatch.setattr(codec_module, "decode_batch", count)
    for only, most in (("00039.png", 1), ("00000.png", 100)):
        batches.clear()
        assert run("unpack", archive, "-o", back, "--only", only, *ON_TINY).error_lines == []
        assert np.array_equal(pixels_of(back / only), make_image(64, 64, int(only[:5])))
        assert 1 <= len(batches) <= most
    assert len(batches) > 3


@pytest.mark.usefixtures("fake_models")
def test_a_folder_makes_the_round_trip(run: Run, tree: Path, tmp_path: Path) -> None:
    archive, back = tmp_path / "tree.nvae", tmp_path / "back"
    assert run("pack", tree, "-o", archive).error_lines == []
    assert run("unpack", archive, "-o", back).error_lines == []
    assert files_in(back) == sorted(name.replace("photo.bmp", "photo.png") for name in files_in(tree))
    for name in files_in(tree):
        restored = (back / name).with_suffix(".png").read_bytes()
        if name == "photo.bmp":
            assert np.array_equal(pixels_of(tree / name), pixels_of(back / "photo.png"))
        else:
            assert same_image(read_image(restored), read_image((tree / name).read_bytes()))
    listed = json.loads(run("list", archive, "--json").out)
    assert [row["name"] for row in listed["images"]] == files_in(tree)
    assert listed["file_bytes"] == archive.stat().st_size
    assert sum(listed["methods"].values()) == 6
    lines = run("list", archive).out.decode().splitlines()
    assert lines[0].split() == ["size", "colour", "method", "segment", "bytes", "bits/dim", "name"]
    assert [line.split()[-1] for line in lines[1:]] == files_in(tree)
    assert "32x32" in lines[1]
    assert "16-bit gray" in lines[1]
    assert sum(row["bytes"] for row in listed["images"]) == pytest.approx(listed["segments"][0]["bytes"], abs=6)


@pytest.mark.usefixtures("fake_models")
def test_other_commands_know_an_archive(run: Run, tree: Path, tmp_path: Path) -> None:
    archive, back = tmp_path / "packed" / "tree.nvae", tmp_path / "back"
    archive.parent.mkdir()
    run("pack", tree, "-o", archive)
    assert run("test", archive).out.decode() == f"{archive}: ok\n"
    assert run("compress", tree / "photo.bmp", "-o", archive.parent / "one.nvae").code == 0
    assert run("test", archive.parent).out.count(b": ok\n") == 2
    described = json.loads(run("info", archive, "--json").out)
    assert (described["images"], described["segments"], described["model"]["name"]) == (6, 1, "photo")
    assert b"photo (" in run("info", archive).out
    assert run("decompress", archive.parent, "-o", back).code == 0
    assert files_in(back / "tree") == [name.replace("photo.bmp", "photo.png") for name in files_in(tree)]
    assert (back / "one.png").is_file()
    to_stdout = run("decompress", archive, "-o", "-")
    assert (to_stdout.code, to_stdout.out) == (1, b"")
    one = run("unpack", archive.parent / "one.nvae")
    assert (one.code, "not an archive" in one.err) == (1, True)


@pytest.mark.usefixtures("fake_models")
def test_one_image_is_had_by_decoding_one_segment(run: Run, numbered: Path, tmp_path: Path) -> None:
    archive, back = tmp_path / "a.nvae", tmp_path / "back"
    assert run("pack", numbered, "-o", archive, "--segment", 4, "--method", "model").code == 0
    data = bytearray(archive.read_bytes())
    data[50] ^= 1  # in the first segment
    archive.write_bytes(data)
    assert run("unpack", archive, "-o", back, "--only", "00006.png").error_lines == []
    assert files_in(back) == ["00006.png"]
    assert np.array_equal(pixels_of(back / "00006.png"), make_image(16, 20, 6))
    missing = run("unpack", archive, "-o", back, "--only", "7.png")
    assert (missing.code, missing.error_lines) == (1, [f"nvae-codec: {archive}: 7.png: there is no such image"])


@pytest.mark.usefixtures("fake_models")
def test_damaged_segments_are_named_and_the_rest_restored(run: Run, numbered: Path, tmp_path: Path) -> None:
    archive, back = tmp_path / "a.nvae", tmp_path / "back"
    run("pack", numbered, "-o", archive, "--segment", 2, "--method", "model")
    segments = nvae_codec.open_archive(archive).segments
    data = bytearray(archive.read_bytes())
    for number in (1, 4):
        data[segments[number].start + 20] ^= 8
    archive.write_bytes(data)
    named = [
        f"nvae-codec: {archive}: segment 2 of 5 (00002.png to 00003.png): damaged: its checksum is wrong",
        f"nvae-codec: {archive}: segment 5 of 5 (00008.png): damaged: its checksum is wrong",
    ]
    result = run("unpack", archive, "-o", back)
    assert (result.code, result.error_lines) == (1, named)
    assert files_in(back) == [f"0000{number}.png" for number in (0, 1, 4, 5, 6, 7)]
    tested = run("test", archive)
    assert (tested.code, tested.out) == (1, b"")
    assert tested.error_lines == [*named, f"nvae-codec: {archive}: 2 of 5 segments are damaged"]
    arrays = run("unpack", archive, "-o", tmp_path / "back.npz")
    assert (arrays.code, arrays.error_lines, (tmp_path / "back.npz").exists()) == (1, named, False)


@pytest.mark.usefixtures("fake_models")
@pytest.mark.parametrize("shape", [(5, 6, 7, 3), (4, 6, 7)])
def test_arrays_go_and_come_back(run: Run, tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(1).integers(0, 9, shape, np.uint8)
    source, archive, back = tmp_path / "in.npz", tmp_path / "a.nvae", tmp_path / "back.npz"
    np.savez(source, images=images)
    assert run("pack", source, "-o", archive).code == 0
    assert run("unpack", archive, "-o", back).code == 0
    assert np.array_equal(np.load(back)["images"], images)
    assert run("unpack", archive).code == 0
    for number, pixels in enumerate(images):
        assert np.array_equal(pixels_of(tmp_path / "a" / f"{number:05d}.png"), pixels)
    assert run("unpack", archive, "-o", back).code == 1, "it exists already"
    assert run("pack", source, source, "-o", archive, "-f").code == 0
    assert len(nvae_codec.open_archive(archive)) == 2 * len(images)
    save_images(tmp_path / "more", 1, 24)
    run("pack", tmp_path / "more", "-o", archive, "--append")
    mixed = run("unpack", archive, "-o", tmp_path / "mixed.npz")
    assert (mixed.code, "of one size" in mixed.err) == (1, True)


@pytest.mark.usefixtures("fake_models")
def test_appending(run: Run, numbered: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "a.nvae"
    assert run("pack", numbered, "-o", archive, "--append", "--segment", 4).code == 0, "to none: a new one"
    assert run("pack", tree, "-o", archive, "--append").code == 0
    assert nvae_codec.open_archive(archive).names == [f"{i:05d}.png" for i in range(9)] + files_in(tree)
    before = archive.read_bytes()
    again = run("pack", tree, "-o", archive, "--append")
    assert again.code == 1
    assert again.error_lines[0] == "nvae-codec: basn0g16.png: the name is there twice"
    assert run("pack", numbered, "-o", archive).code == 1, "neither -f nor --append"
    other = run("pack", numbered, "-o", archive, "--append", "--model", "mnist")
    assert (other.code, "coded with model" in other.err) == (1, True)

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nvae_codec.container.archive.writer.pack_segment", stop)
    assert run("pack", numbered, "-o", archive, "--append").code == 130
    assert archive.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.usefixtures("fake_models")
def test_what_cannot_be_packed_is_named_and_the_rest_packed(run: Run, tree: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.nvae"
    (tree / "broken.png").write_bytes(b"no image")
    result = run("pack", tree, tree / "photo.bmp", "-o", archive, "--method", "model")
    assert result.code == 1
    assert sorted(line.split(":")[1].strip() for line in result.error_lines) == [
        "broken.png", "photo.bmp", "tbbn3p08.png",
    ]  # fmt: skip
    assert "the name is there twice" in result.err
    assert len(nvae_codec.open_archive(archive)) == 5
    archive.unlink()
    assert run("pack", tree / "broken.png", "-o", archive).code == 1
    assert not archive.exists()
    for wrong in (("--segment", "0"), ("--segment", "many"), ("--workers", "0")):
        assert run("pack", tree, "-o", archive, *wrong).code == 2
    assert run("pack", tree).code == 2
    assert run("pack", tmp_path / "nowhere", "-o", archive).code == 2


@pytest.mark.usefixtures("fake_models")
def test_nothing_is_overwritten_unless_forced(run: Run, numbered: Path, tmp_path: Path) -> None:
    archive, back = tmp_path / "a.nvae", tmp_path / "back"
    run("pack", numbered, "-o", archive)
    back.mkdir()
    (back / "00003.png").write_bytes(b"precious")
    result = run("unpack", archive, "-o", back)
    assert result.code == 1
    assert [line.split(":")[2].strip() for line in result.error_lines] == ["00003.png"]
    assert (back / "00003.png").read_bytes() == b"precious"
    assert len(files_in(back)) == 9
    assert run("unpack", archive, "-o", back, "-f").code == 0
    assert run("unpack", archive, "-o", back / "00003.png").code == 1


def test_names_of_restored_images_do_not_collide() -> None:
    def restored(*names: str, kind: Kind = Kind.PIXELS) -> list[str]:
        return list(name_restored([Entry(name, kind, RGB8, 1, 1, False) for name in names]))

    assert restored("a.jpg", "a.png", "b.PNG", "b", "c.tif", "c.bmp", "d/e.f.webp") == [
        "a.jpg.png", "a.png", "b.PNG", "b.png", "c.png", "c.bmp.png", "d/e.f.png",
    ]  # fmt: skip
    assert restored("a.bmp", "a.png/b.png") == ["a.bmp.png", "a.png/b.png"]
    assert restored("a.jpg", "b", kind=Kind.FILE) == ["a.jpg", "b"]


def test_the_number_of_workers_changes_nothing(run: Run, numbered: Path, tmp_path: Path) -> None:
    one, two, back = tmp_path / "1.nvae", tmp_path / "2.nvae", tmp_path / "back.npz"
    for archive, workers in ((one, 1), (two, 2)):  # without a model, whose loading takes processes long
        how = ("--segment", 4, "--method", "webp", "--workers", workers)
        assert run("pack", numbered, "-o", archive, *how).error_lines == []
    assert one.read_bytes() == two.read_bytes()
    assert run("pack", numbered, "-o", one, "-f", "--segment", 5, "--method", "model", *ON_TINY).error_lines == []
    assert run("unpack", one, "-o", back, "--workers", 2, *ON_TINY).error_lines == []
    assert np.array_equal(np.load(back)["images"], np.load(numbered)["images"])


def test_a_missing_model_of_an_archive_is_named(run: Run, numbered: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.nvae"
    run("pack", numbered, "-o", archive, "--method", "model", *ON_TINY)
    lost = run("unpack", archive, "-o", tmp_path / "lost")
    assert lost.code == 1
    assert "segment 1 of 1" in lost.err
    assert f"made by model {read_model_info(MODEL).id}, which is not installed" in lost.err


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_reads_an_archive(run: Run, numbered: Path, tmp_path: Path, workers: int) -> None:
    archive = tmp_path / "a.nvae"
    assert run("pack", numbered, "-o", archive, "--segment", 4, "--method", "model", *ON_TINY).code == 0
    images = nvae_codec.ArchiveDataset(archive, model=MODEL)
    assert len(images) == 9
    assert images.names[8] == "00008.png"
    if workers:
        assert images[1].shape == (3, 16, 20), "opened in this process first"
    batches = list(DataLoader(images, batch_size=2, num_workers=workers))
    read = np.concatenate([batch.numpy() for batch in batches])
    assert np.array_equal(read.transpose(0, 2, 3, 1), np.load(numbered)["images"])
    with pytest.raises(IndexError):
        images[9]


def test_a_data_set_has_gray_images_too(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "gray.npz", images=np.arange(60, dtype=np.uint8).reshape(1, 6, 10))
    run("pack", tmp_path / "gray.npz", "-o", tmp_path / "gray.nvae", "--method", "webp")
    image = nvae_codec.ArchiveDataset(tmp_path / "gray.nvae")[0]
    assert image.shape == (1, 6, 10)
    assert image.flatten().tolist() == list(range(60))


def test_pixels_that_were_read_are_the_callers_own(run: Run, numbered: Path, tmp_path: Path) -> None:
    assert run("pack", numbered, "-o", tmp_path / "x.nvae", "--method", "stored").code == 0
    archive = nvae_codec.open_archive(tmp_path / "x.nvae")
    first = archive.read(0)
    first[:] = 0
    assert np.array_equal(archive.read(0), make_image(16, 20, 0))


def test_an_archive_is_restored_to_the_named_folder(run: Run, numbered: Path, tmp_path: Path) -> None:
    archive, folder = tmp_path / "x.nvae", tmp_path / "photos.2024"
    assert run("pack", numbered, "-o", archive, "--method", "stored").code == 0
    assert run("decompress", archive, "-o", folder).code == 0
    assert len(files_in(folder)) == 9
    folder = tmp_path / "x"
    folder.touch()
    result = run("decompress", archive)
    assert result.code == 1
    assert result.error_lines == [f"nvae-codec: {archive}: {folder}: it is not a folder"]


@pytest.mark.parametrize("command", ["list", "unpack", "append"])
def test_what_is_no_archive_is_named(run: Run, numbered: Path, tmp_path: Path, command: str) -> None:
    other = tmp_path / "other.nvae"
    other.write_bytes(b"other")
    arguments = ("pack", numbered, "--append", "-o", other) if command == "append" else (command, other)
    result = run(*arguments)
    assert result.code == 1
    assert result.error_lines == [f"nvae-codec: {other}: not an archive"]


def test_unknown_names_are_the_only_error(run: Run, numbered: Path, tmp_path: Path) -> None:
    archive = tmp_path / "x.nvae"
    assert run("pack", numbered, "-o", archive, "--method", "stored").code == 0
    result = run("unpack", archive, "--only", "no.png", "-o", tmp_path / "out.npz")
    assert result.code == 1
    assert result.error_lines == [f"nvae-codec: {archive}: no.png: there is no such image"]


@pytest.mark.parametrize("command", ["pack", "unpack", "merge"])
def test_archives_and_folders_do_not_go_to_stdout(
    run: Run, numbered: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(numbered.parent)
    result = run(command, numbered, "-o", "-")
    assert result.code == 2
    assert result.error_lines[-1] == "Error: Invalid value for '-o': it cannot go to stdout"
    assert not Path("-").exists()


def test_images_are_chosen_by_pattern_and_in_either_unicode_form(run: Run, tmp_path: Path) -> None:
    folder, archive = tmp_path / "in", tmp_path / "x.nvae"
    for name in ("holiday/a.png", "holiday/e\u0301t\u00e9.png", "b.png", "[c].png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make_image(8, 8)).save(folder / name)
    assert run("pack", folder, "-o", archive, "--method", "stored").code == 0
    for pattern, expected in (
        ("holiday/*.png", ["holiday/a.png", "holiday/e\u0301t\u00e9.png"]),
        ("holiday/\u00e9te\u0301.png", ["holiday/e\u0301t\u00e9.png"]),
        ("[c].png", ["[c].png"]),
        ("?.png", ["b.png"]),
    ):
        assert run("unpack", archive, "--only", pattern, "-o", tmp_path / "out", "-f").error_lines == []
        assert files_in(tmp_path / "out") == expected
        shutil.rmtree(tmp_path / "out")
    assert run("list", archive, archive).out.decode().count("bits/dim") == 2
