"""Sources and inputs: never lost, never written over, never left out without a word."""

import importlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nvae_codec
import nvae_codec.pillow
from tests.cli.conftest import Run


def save(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (9, 11, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("command", ["compress", "decompress"])
@pytest.mark.parametrize("how", ["replaced", "rewritten"])
def test_rm_keeps_a_source_that_changed_meanwhile(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, how: str
) -> None:
    source = save(tmp_path / "a.png")
    if command == "decompress":
        assert run("compress", source, "--method", "stored", "--rm").code == 0
        source = tmp_path / "a.nvae"
    other = (tmp_path / "other", b"something else")
    other[0].write_bytes(other[1])

    where, name = {"compress": ("images.read", "read_image"), "decompress": ("container.image", "read_file")}[command]
    module = importlib.import_module(f"nvae_codec.{where}")
    work = getattr(module, name)

    def change(*arguments: object) -> object:
        if how == "replaced":
            other[0].replace(source) if other[0].exists() else None
        else:
            source.write_bytes(other[1])
        return work(*arguments)

    monkeypatch.setattr(module, name, change)
    result = run(command, source, "--rm", *(["--method", "stored"] if command == "compress" else []))
    assert result.code == 1
    assert result.error_lines == [f"nvae-codec: {source}: it changed after it was read, so it is kept"]
    assert source.read_bytes() == other[1]
    assert source.with_suffix(".nvae" if command == "compress" else ".png").is_file()


def test_rm_keeps_what_went_to_a_device(run: Run, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    result = run("compress", source, "-o", "/dev/null", "--rm", "--method", "stored")
    assert (result.code, result.error_lines) == (1, [f"nvae-codec: {source}: it is kept, as /dev/null is no file"])
    assert source.is_file()


def test_no_command_writes_over_its_inputs(run: Run, tmp_path: Path) -> None:
    source, folder = save(tmp_path / "in" / "a.png"), tmp_path / "in"
    assert run("pack", folder, "-o", tmp_path / "z.npz", "--method", "stored").code == 0
    archive = tmp_path / "z.npz"
    os.link(archive, tmp_path / "a.png")
    before = {path: path.read_bytes() for path in (source, archive)}
    for arguments in (
        ("evaluate", source, "--html", source),
        ("evaluate", folder, "--json", source),
        ("bench", folder, "--json", source),
        ("pack", folder, "-o", source, "-f"),
        ("merge", archive, "-o", archive, "-f"),
        ("unpack", archive, "-o", archive, "-f", "--only", "a.png"),
        ("unpack", archive, "-o", tmp_path, "-f"),
    ):
        result = run(*arguments)
        assert result.code == 1, arguments
        assert "is one of the inputs; nothing is written over an input" in result.error_lines[0]
    assert {path: path.read_bytes() for path in before} == before


def test_what_a_folder_holds_besides_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "a.png")
    (folder / "d.gif").touch()
    for command, out in (("compress", "out"), ("pack", "out.nvae")):
        result = run(command, folder, "-o", tmp_path / out, "--method", "stored")
        assert (result.code, result.error_lines) == (
            0,
            [f"nvae-codec: left out: 1 of no known kind ({folder / 'd.gif'})"],
        )
    assert run("compress", folder, "-o", tmp_path / "out", "--method", "stored", "-f", "-q").error_lines == []
    (folder / "gone.png").symlink_to("nowhere")
    stored = ("--method", "stored", "-f")
    for more in (("compress", "-o", tmp_path / "out", *stored), ("pack", "-o", tmp_path / "out.nvae", *stored)):
        result = run(more[0], folder, *more[1:])
        assert result.code == 1, result.err
        assert "1 that cannot be read" in result.error_lines[-1]
    assert nvae_codec.open_archive(tmp_path / "out.nvae").names == ["a.png"]
    (tmp_path / "out" / "gone.nvae").symlink_to("nowhere")
    for arguments in (("test",), ("decompress", "-o", tmp_path / "back")):
        result = run(*arguments, tmp_path / "out")
        assert result.code == 1
        assert "1 that cannot be read" in result.error_lines[-1]


def test_one_folder_may_hold_one_name_twice(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "in" / "p.png", 1)
    save(tmp_path / "in" / "p.bmp", 2)
    assert run("compress", tmp_path / "in", "-o", tmp_path / "out", "--method", "stored").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["p.bmp.nvae", "p.png.nvae"]
    assert run("decompress", tmp_path / "out", "-o", tmp_path / "back").code == 0
    for name, back in (("p.png", "p.png"), ("p.bmp", "p.bmp.png")):
        one, other = Image.open(tmp_path / "in" / name), Image.open(tmp_path / "back" / back)
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_several_files_go_next_to_their_sources(run: Run, tmp_path: Path) -> None:
    one, other = save(tmp_path / "a.png"), save(tmp_path / "deep" / "b.png")
    assert run("compress", one, other, "--method", "stored", "--rm").code == 0
    assert run("decompress", one.with_suffix(".nvae"), other.with_suffix(".nvae")).code == 0
    assert one.is_file()
    assert other.is_file()


def test_times_are_kept(run: Run, tmp_path: Path) -> None:
    source = save(tmp_path / "a.png")
    os.utime(source, (981158400, 981158400))
    assert run("compress", source, "--method", "stored").code == 0
    assert run("decompress", tmp_path / "a.nvae", "-o", tmp_path / "back.png").code == 0
    for name in ("a.nvae", "back.png"):
        assert (tmp_path / name).stat().st_mtime == 981158400


def test_archives_keep_times_unless_metadata_are_dropped(run: Run, tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b/c.png")):
        os.utime(save(tmp_path / "in" / name), (5, 981158400 + number))
    for keep, expected in (("all", {"a.png": 981158400, "b/c.png": 981158401}), ("none", {})):
        archive = tmp_path / f"{keep}.nvae"
        assert run("pack", tmp_path / "in", "-o", archive, "--method", "stored", "--metadata", keep).code == 0
        assert run("unpack", archive).code == 0
        found = {name: (tmp_path / keep / name).stat().st_mtime for name in ("a.png", "b/c.png")}
        assert {name: time for name, time in found.items() if time < 1e9} == expected


def test_two_names_of_one_target_lose_nothing(run: Run, tmp_path: Path) -> None:
    first, second = save(tmp_path / "in" / "a" / "x.png"), save(tmp_path / "in" / "b" / "x.png")
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "b").symlink_to("a")
    result = run("compress", tmp_path / "in", "-o", tmp_path / "out", "-f", "--rm", "--method", "stored")
    assert result.code == 1
    assert "was written just now for another input" in result.err
    assert (first.exists(), second.exists()) == (False, True)


def test_names_that_a_file_system_takes_for_one_are_reported(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a" / "x.png")
    save(tmp_path / "in" / "A" / "x.png")
    assert run("pack", tmp_path / "in", "-o", tmp_path / "x.nvae", "--method", "stored").code == 0
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "A").symlink_to("a")  # as where case is ignored
    result = run("unpack", tmp_path / "x.nvae", "-o", tmp_path / "out", "-f")
    assert result.code == 1
    assert "it is the same file as" in result.err


def test_archives_are_as_private_as_their_images_and_images_as_their_archive(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").chmod(0o600)
    archive = tmp_path / "x.nvae"
    assert run("pack", tmp_path / "in", "-o", archive, "--method", "stored").code == 0
    assert archive.stat().st_mode & 0o777 == 0o600
    assert run("unpack", archive).code == 0
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "x").iterdir()} == {0o600}
    assert run("unpack", archive, "-o", tmp_path / "x.npz").code == 0
    assert (tmp_path / "x.npz").stat().st_mode & 0o777 == 0o600


def save_jpeg(path: Path, trailer: bytes = b"") -> bytes:
    """A photograph-like JPEG: smooth, with some noise."""
    y, x = np.mgrid[:96, :128]
    pixels = 128 + 90 * np.sin(np.stack([x, y, x + y], -1) / 30) + np.random.default_rng(0).normal(0, 6, (96, 128, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, "JPEG", quality=60, comment=b"By hand")
    path.write_bytes(path.read_bytes() + trailer)
    return path.read_bytes()


@pytest.mark.parametrize("trailer", [b"", b"a gain map"])
def test_a_jpeg_comes_back_as_it_was(run: Run, tmp_path: Path, trailer: bytes) -> None:
    data = save_jpeg(tmp_path / "photo.jpg", trailer)
    assert run("compress", tmp_path / "photo.jpg", "--rm", "--verify").error_lines == []
    assert not (tmp_path / "photo.jpg").exists()
    assert (tmp_path / "photo.nvae").stat().st_size < len(data) + 30
    with Image.open(tmp_path / "photo.nvae") as opened, Image.open(io.BytesIO(data)) as source:
        assert np.array_equal(np.asarray(opened), np.asarray(source))
    assert nvae_codec.decompress((tmp_path / "photo.nvae").read_bytes()).shape == (96, 128, 3)
    assert run("decompress", tmp_path / "photo.nvae", "--rm").code == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"photo.jpg": data}


def test_jpegs_in_folders_and_archives_come_back_as_they_were(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    files = {name: save_jpeg(folder / name, name.encode()) for name in ("a.jpg", "b.JPEG", "c.jfif")}
    files["a.png"] = save(folder / "a.png").read_bytes()
    assert run("compress", folder, "-o", tmp_path / "out", "--method", "stored").code == 0
    assert run("decompress", tmp_path / "out", "-o", tmp_path / "back").code == 0
    found = {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()}
    assert sorted(found.values()) == sorted(files.values())
    assert sorted(found) == ["a.jpg", "a.png", "b.jpg", "c.jpg"]
    assert run("pack", folder, "-o", tmp_path / "x.nvae").code == 0
    assert run("unpack", tmp_path / "x.nvae").code == 0
    assert {name: (tmp_path / "x" / name).read_bytes() for name in ("a.jpg", "b.JPEG", "c.jfif")} == {
        name: files[name] for name in ("a.jpg", "b.JPEG", "c.jfif")
    }


def test_rm_keeps_a_jpeg_whose_pixels_alone_are_kept(run: Run, tmp_path: Path) -> None:
    data = save_jpeg(tmp_path / "photo.jpg")
    result = run("compress", tmp_path / "photo.jpg", "--rm", "--method", "model")
    assert result.code == 0
    assert "its pixels are kept, and its file is not" in result.error_lines[0]
    assert "so it is kept" in result.error_lines[1]
    assert "1 as pixels, not as the file" in result.err
    assert (tmp_path / "photo.jpg").read_bytes() == data


def test_a_pgm_of_16_bits_that_is_kept_as_a_png_is_not_kept_as_its_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 1 1 65535\n\1\2")
    result = run("compress", tmp_path / "a.pgm", "--rm", "--method", "stored")
    assert "1 as pixels, not as the file" in result.err
    assert "so it is kept" in result.err
    assert (tmp_path / "a.pgm").exists()


def test_pack_says_of_how_many_images_the_file_is_not_kept(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    save_jpeg(tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "c.pgm").write_bytes(b"P5 1 1 65535\n\1\2")
    for method, count in (("webp", 1), ("stored", 1)):
        result = run("pack", tmp_path / "in", "-o", tmp_path / f"{method}.nvae", "--method", method)
        assert f", {count} as pixels, not as the file" in result.err


def test_rm_keeps_a_jpeg_of_which_more_than_pixels_would_be_lost(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "flat.jpg"
    Image.new("RGB", (64, 64)).save(path, "JPEG", comment=b"By hand")
    result = run("compress", path, "--rm", "--method", "webp")
    assert result.code == 0
    assert "does not hold everything in it" in result.error_lines[0]
    assert path.exists()
    assert run("compress", path, "--rm", "-f").code == 0
    assert not path.exists()
    assert run("decompress", tmp_path / "flat.nvae").code == 0
    assert b"By hand" in path.read_bytes()


def test_a_file_with_more_than_its_pixels_is_not_coded_by_the_model(run: Run, tmp_path: Path) -> None:
    save_jpeg(tmp_path / "photo.jpg", b"a gain map")
    result = run("compress", tmp_path / "photo.jpg", "--method", "model")
    assert result.code == 1
    assert "has data after its end" in result.err


HOSTILE = "\x1b]0;title\x07\x9b31m\u202egnp.exe\u2066.png"


@pytest.mark.parametrize("command", ["compress", "decompress", "test", "info", "evaluate", "pack"])
def test_names_do_not_control_the_terminal(run: Run, tmp_path: Path, command: str) -> None:
    name = tmp_path / HOSTILE
    name.write_bytes(b"no image")
    more = ["-o", tmp_path / "x.nvae"] if command == "pack" else []
    for path in (name, tmp_path / ("none" + HOSTILE)):
        result = run(command, path, *more)
        assert result.code != 0
        assert not set(HOSTILE) & set("\x1b\x07\x9b\u202e\u2066") & set(result.err + result.out.decode())
        assert "\\x1b]0;title\\x07\\x9b31m\\u202egnp.exe\\u2066.png" in result.err


def test_names_on_stdout_do_not_control_the_terminal(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    assert run("compress", tmp_path / "a.png", "-o", tmp_path / HOSTILE, "--method", "stored").code == 0
    for command in ("test", "info"):
        assert "\\x1b]0;title" in run(command, tmp_path / HOSTILE).out.decode()


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nvae_codec", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    for index in range(40):
        save(tmp_path / "in" / f"{index}.png", index)
    process = start("pack", tmp_path / "in", "-o", tmp_path / "out" / "x.nvae", "--method", "stored", "--segment", 1)
    (tmp_path / "out").mkdir()
    while process.poll() is None and not list((tmp_path / "out").glob(".*.part")):
        time.sleep(0.001)
    process.send_signal(number)
    _, errors = process.communicate()
    assert "Traceback" not in errors
    if process.returncode != 0:  # it may have been too quick
        assert process.returncode == (130 if number == signal.SIGINT else 128 + number)
        assert list((tmp_path / "out").iterdir()) == []


def test_names_are_those_of_the_archive_in_any_locale(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "in" / "é.png")
    ascii_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for arguments in (
        ("pack", tmp_path / "in", "-o", tmp_path / "x.nvae", "--method", "stored"),
        ("unpack", tmp_path / "x.nvae", "-o", tmp_path / "back"),
        ("list", tmp_path / "x.nvae"),
        ("compress", tmp_path / "in", "-o", tmp_path / "out", "--method", "stored"),
    ):
        process = start(*arguments, **ascii_locale)
        assert process.communicate()[1].count("nvae-codec:") == 0
        assert process.returncode == 0
    assert nvae_codec.open_archive(tmp_path / "x.nvae").names == ["é.png"]
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["é.png"]
