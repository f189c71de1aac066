"""Full disks, folders that take no files, inputs that are gone, many processes: one line each, never half a file."""

import importlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nvae_codec
from nvae_codec.errors import NvaeCodecError
from nvae_codec.files import open_atomic
from nvae_codec.images.find import SUFFIXES, Findings, find_files
from tests.cli.conftest import Run, largest_file


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of 14 kB."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder


@pytest.mark.parametrize(("command", "how"), [("compress", "-f"), ("pack", "-f"), ("pack", "--append")])
def test_a_full_disk_leaves_what_was_there(run: Run, images: Path, command: str, how: str) -> None:
    target = images / "some.nvae"
    first, second, third = (images / f"{index}.png" for index in range(3))
    assert run(command, first, "-o", target, "--method", "stored").code == 0
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    with largest_file(10_000):
        inputs = (second,) if command == "compress" else (second, third)
        result = run(command, *inputs, "-o", target, "--method", "stored", how)
    assert result.code == 1
    named = f"{second}: {target}" if command == "compress" else str(target)
    assert result.error_lines == [f"nvae-codec: {named} cannot be written: File too large"]
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


def test_a_full_disk_is_named_for_each_image(run: Run, images: Path, tmp_path: Path) -> None:
    with largest_file(10_000):
        result = run("compress", images, "-o", tmp_path / "out", "--method", "stored")
    assert [line.rsplit(": ", 1)[1] for line in result.error_lines] == ["File too large"] * 3
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full, a disk that is always full")
@pytest.mark.parametrize("command", ["compress", "info"])
def test_a_stdout_that_takes_nothing(images: Path, run: Run, command: str) -> None:
    source = images / "0.png"
    if command == "info":
        run("compress", source, "--method", "stored")
        source = source.with_suffix(".nvae")
    more = ["-o", "-", "--method", "stored"] if command == "compress" else []
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "nvae_codec", command, str(source), *more],
            stdout=full,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            check=False,
        )
    assert done.stderr.decode() == f"nvae-codec: {source}: No space left on device\n"
    assert done.returncode != 0


def test_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o500)
    tmp_path.chmod(0o700)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # permissions do not bind root
    try:
        with (
            pytest.raises(NvaeCodecError, match=r"x\.nvae cannot be written: Permission denied$"),
            open_atomic(folder / "x.nvae", force=False),
        ):
            pass
    finally:
        if root:
            os.seteuid(0)
    assert list(folder.iterdir()) == []


def test_a_target_within_a_file(images: Path) -> None:
    with (
        pytest.raises(NvaeCodecError, match=r"x\.nvae cannot be written: Not a directory$"),
        open_atomic(images / "0.png" / "x.nvae", force=False),
    ):
        pass


def test_inputs_that_are_gone_are_named_and_the_rest_done(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = images / "1.png"

    def vanish(folder: Path, suffixes: Collection[str] = SUFFIXES) -> Findings:
        found = find_files(folder, suffixes)
        gone.unlink(missing_ok=True)
        return found

    for user in ("nvae_codec.cli.files", "nvae_codec.evaluation.inputs"):
        monkeypatch.setattr(importlib.import_module(user), "find_files", vanish)
    result = run("compress", images, "-o", tmp_path / "out", "--method", "stored")
    assert (result.code, result.error_lines) == (1, [f"nvae-codec: {gone}: No such file or directory"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.nvae", "2.nvae"]
    gone.write_bytes((images / "0.png").read_bytes())
    packed = run("pack", images, "-o", tmp_path / "some.nvae", "--method", "stored")
    assert (packed.code, packed.error_lines) == (1, ["nvae-codec: 1.png: No such file or directory"])


def test_ten_processes_on_one_folder(run: Run, images: Path, tmp_path: Path) -> None:
    assert run("compress", images, "-o", tmp_path / "alone", "--method", "stored").code == 0
    command: list[str | Path] = [sys.executable, "-m", "nvae_codec", "compress", images, "-o", tmp_path / "out"]
    processes = [
        subprocess.Popen([*command, "--method", "stored", "-f", "-q"], stderr=subprocess.PIPE) for _ in range(10)
    ]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [(b"", 0)] * 10
    alone, out = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("alone", "out"))
    assert out == alone


def test_permissions_and_links_stay(run: Run, images: Path, tmp_path: Path) -> None:
    archive, link = tmp_path / "x.nvae", tmp_path / "link.nvae"
    assert run("pack", images / "0.png", "-o", archive, "--method", "stored").code == 0
    archive.chmod(0o640)
    link.symlink_to(archive)
    assert run("pack", images / "1.png", "-o", link, "--method", "stored", "--append").code == 0
    assert link.is_symlink()
    assert nvae_codec.open_archive(archive).names == ["0.png", "1.png"]
    assert archive.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_result_is_as_private_as_its_source(run: Run, images: Path, mode: int) -> None:
    source, target = images / "0.png", images / "0.nvae"
    usual = target
    usual.touch()
    new = usual.stat().st_mode & 0o777
    usual.unlink()
    source.chmod(mode)
    assert run("compress", source, "--method", "stored").code == 0
    assert target.stat().st_mode & 0o777 == mode & new
    source.unlink()
    assert run("decompress", target).code == 0
    assert source.stat().st_mode & 0o777 == mode & new


def test_a_pipe_is_not_replaced(run: Run, images: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.nvae"
    os.mkfifo(pipe)
    result = run("pack", images / "0.png", "-o", pipe, "--method", "stored", "-f")
    assert result.code == 1
    assert result.error_lines == [f"nvae-codec: {pipe} cannot be written: it is no file"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("command", ["evaluate", "bench", "freeze"])
def test_a_report_that_cannot_be_written_costs_no_work(run: Run, images: Path, tmp_path: Path, command: str) -> None:
    report = tmp_path / "none" / "x.json"
    arguments = {
        "evaluate": ("evaluate", images, "--json", report),
        "bench": ("bench", images, "--json", report),
        "freeze": ("freeze", images, "-o", tmp_path / "x", "--calibrate", images, "--report", report),
    }
    result = run(*arguments[command])
    assert result.code == 1
    assert result.error_lines == [f"nvae-codec: {report} cannot be written: No such file or directory"]
    report.mkdir(parents=True)
    result = run(*arguments[command])
    assert result.code == 2
    assert result.error_lines[-1].endswith(f"File '{report}' is a directory.")


def test_a_full_disk_leaves_no_part_of_a_report(run: Run, images: Path, tmp_path: Path) -> None:
    report = tmp_path / "x.json"
    with largest_file(100):
        result = run("bench", images / "0.png", "--codec", "PNG", "--json", report, "-q")
    assert result.code == 1
    assert result.error_lines == [f"nvae-codec: {report} cannot be written: File too large"]
    assert list(tmp_path.iterdir()) == [images]


def test_streams_that_are_closed(images: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    main = importlib.import_module("nvae_codec.cli.main").main
    for stream, arguments in (("stdout", ["0.png", "-o", "-"]), ("stdin", ["-", "-o", "x.nvae"])):
        errors = io.StringIO()
        with monkeypatch.context() as patch:
            patch.chdir(images)
            patch.setattr(sys, stream, None)
            patch.setattr(sys, "stderr", errors)
            assert main(["compress", *arguments]) == 1
        assert errors.getvalue().endswith("closed\n")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks Linux's /proc which processes there are")
def test_workers_end_with_those_who_started_them() -> None:
    script = "from nvae_codec.parallel.processes import begin_worker; import multiprocessing, os, sys, time\n"
    script += "def work():\n begin_worker(None, None); print(os.getpid(), flush=True); time.sleep(600)\n"
    script += "if __name__ == '__main__':\n"
    script += " multiprocessing.get_context('fork').Process(target=work).start(); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        worker = int(started.stdout.readline())
        started.kill()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()


def test_a_reader_that_has_gone_needs_no_message(images: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "nvae_codec", "compress", str(images / "0.png"), "-o", "-", "--method", "stored"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
