import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvae_codec.cli.main import COLLECT_AFTER
from nvae_codec.images.raster import RasterImage, same_image
from nvae_codec.images.read import read_image
from nvae_codec.images.write import write_png
from tests.cli.conftest import Run
from tests.fakes import FakeLoader, write_fake_model

pytestmark = pytest.mark.usefixtures("fake_models")


def ramp(height: int = 40, width: int = 60) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, x + y], -1).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(write_png(RasterImage.from_pixels(ramp())))
    return path


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_photo_makes_the_round_trip(run: Run, photo: Path) -> None:
    original = photo.read_bytes()
    assert run("compress", photo, "--method", "model").code == 0
    assert files_in(photo.parent) == ["photo.nvae", "photo.png"]
    assert photo.read_bytes() == original
    photo.unlink()
    result = run("decompress", photo.with_suffix(".nvae"))
    assert (result.code, result.out, result.err.count("\n")) == (0, b"", 1)
    assert re.fullmatch(r"1 image, [\d.]+ k?B -> [\d.]+ k?B \(\d+ %\), \S+ MP/s, \d+\.\d s\n", result.err)
    assert same_image(read_image(photo.read_bytes()), read_image(original))
    assert run("test", photo.with_suffix(".nvae")).out.endswith(b"photo.nvae: ok\n")


@pytest.mark.parametrize("method", ["auto", "model", "webp", "stored"])
def test_stdin_and_stdout(run: Run, photo: Path, method: str) -> None:
    packed = run("compress", "-", "--method", method, stdin=photo.read_bytes())
    assert (packed.code, packed.err) == (0, "")
    restored = run("decompress", "-", stdin=packed.out)
    assert (restored.code, restored.err) == (0, "")
    assert same_image(read_image(restored.out), read_image(photo.read_bytes()))
    assert run("compress", photo, "-o", "-", "--method", method).out == packed.out
    assert run("test", "-", stdin=packed.out).out == b"stdin: ok\n"
    assert json.loads(run("info", "-", "--json", stdin=packed.out).out)["method"] in (method, "webp", "stored")


def test_binary_data_does_not_go_to_a_terminal_unless_forced(run: Run, photo: Path) -> None:
    refused = run("compress", photo, "-o", "-", terminal=True)
    assert (refused.code, refused.out) == (1, b"")
    assert "terminal" in refused.err
    assert run("compress", photo, "-o", "-", "-f", terminal=True).out.startswith(b"\xd6N")


def test_nothing_is_overwritten_unless_forced(run: Run, photo: Path) -> None:
    target = photo.with_suffix(".nvae")
    target.write_bytes(b"precious")
    refused = run("compress", photo)
    assert refused.code == 1
    assert refused.err == f"nvae-codec: {photo}: {target} exists already (-f overwrites it)\n"
    assert target.read_bytes() == b"precious"
    assert run("compress", photo, "-f").code == 0
    assert run("decompress", target).code == 1
    assert run("decompress", target, "-f").code == 0
    itself = run("compress", photo, "-f", "-o", photo)
    assert (itself.code, "overwrite itself" in itself.err) == (1, True)


def test_folders_are_mirrored(run: Run, photo: Path, tmp_path: Path) -> None:
    tree, there, back = tmp_path / "tree", tmp_path / "there", tmp_path / "back"
    for name in ("a.png", "deep/b.PNG", "deep/er/c.png"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(photo.read_bytes())
    (tree / "notes.txt").write_text("no image")
    assert run("compress", tree).code == 2
    assert run("compress", tree, "-o", there).code == 0
    assert files_in(there) == ["a.nvae", "deep", "deep/b.nvae", "deep/er", "deep/er/c.nvae"]
    assert run("test", there).out.count(b": ok\n") == 3
    assert run("decompress", there, "-o", back).code == 0
    assert files_in(back) == ["a.png", "deep", "deep/b.png", "deep/er", "deep/er/c.png"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert run("compress", empty, "-o", tmp_path / "none").code == 1
    assert not (tmp_path / "none").exists()


def test_other_files_are_done_after_a_failure(run: Run, photo: Path, tmp_path: Path) -> None:
    broken, out = tmp_path / "broken.png", tmp_path / "out"
    broken.write_bytes(photo.read_bytes()[:-5])
    result = run("compress", broken, tmp_path / "missing.png", photo, "-o", out)
    assert result.code == 1
    assert result.error_lines == [
        f"nvae-codec: {broken}: truncated PNG: it ends within a chunk",
        f"nvae-codec: {tmp_path / 'missing.png'}: No such file or directory",
    ]
    assert files_in(out) == ["photo.nvae"]


def test_rm_removes_the_source_after_success_only(run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = read_image(photo.read_bytes())
    packed = photo.with_suffix(".nvae")
    assert run("compress", photo, "--rm", "-o", "-").code == 2
    assert run("compress", photo, "--rm").code == 0
    assert files_in(photo.parent) == ["photo.nvae"]
    assert run("decompress", packed, "--rm").code == 0
    assert files_in(photo.parent) == ["photo.png"]
    assert same_image(read_image(photo.read_bytes()), original)
    monkeypatch.setattr(
        "nvae_codec.container.image.read_file", lambda data, models: RasterImage.from_pixels(ramp(2, 2))
    )
    result = run("compress", photo, "--rm")
    assert (result.code, "does not decode to the same image" in result.err) == (1, True)
    assert files_in(photo.parent) == ["photo.png"]


def test_the_model_is_loaded_once_and_with_what_was_asked(
    run: Run, photo: Path, tmp_path: Path, fake_models: FakeLoader
) -> None:
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    options = ("--device", "cpu", "--threads", "1", "--batch-tiles", "2", "--method", "model", "--verify")
    assert run("compress", photo, other, "-o", tmp_path / "out", *options).code == 0
    assert fake_models.calls == [{"name": "photo", "device": "cpu", "threads": 1, "batch_tiles": 2}]


def test_models_by_name_by_path_and_unknown(run: Run, photo: Path, tmp_path: Path) -> None:
    mine = write_fake_model(tmp_path / "mine", "mine")
    packed = photo.with_suffix(".nvae")
    assert run("compress", photo, "--model", "mnist", "--method", "model").code == 0
    assert json.loads(run("info", packed, "--json").out)["model"]["name"] == "mnist"
    assert run("compress", photo, "--model", mine, "--method", "model", "-f").code == 0
    described = json.loads(run("info", packed, "--json").out)["model"]
    assert described["name"] is None
    lost = run("test", packed)
    here = ", ".join(f"{m['name']} ({m['id']})" for m in json.loads(run("models", "--json").out))
    assert lost.code == 1
    assert lost.err == (
        f"nvae-codec: {packed}: made by model {described['id']}, which is not installed; installed models: {here}\n"
    )
    assert run("test", packed, "--model", mine.parent).code == 0
    nameless = run("compress", photo, "--model", "nothing", "-f")
    assert (nameless.code, "there is no model nothing; installed models: " in nameless.err) == (1, True)


def test_info_describes_a_file(run: Run, photo: Path) -> None:
    run("compress", photo, "--method", "model")
    packed = photo.with_suffix(".nvae")
    described = json.loads(run("info", packed, "--json").out)
    size = packed.stat().st_size
    assert described["model"].keys() == {"name", "id"}
    expected = {"width": 60, "height": 40, "mode": "RGB", "bits": 8, "method": "model", "file_bytes": size}
    assert described | expected == described
    assert described["bits_per_dim"] == pytest.approx(8 * size / (60 * 40 * 3), abs=1e-6)
    assert len(described["checksum"]) == 16
    assert size - described["payload_bytes"] == 27
    assert b"photo (" in run("info", packed).out


def test_the_checksum_is_that_of_the_pixels(run: Run, photo: Path) -> None:
    sums = set()
    for method in ("model", "webp"):
        run("compress", photo, "--method", method, "-f")
        sums.add(json.loads(run("info", photo.with_suffix(".nvae"), "--json").out)["checksum"])
    assert len(sums) == 1


def test_models_are_listed(run: Run) -> None:
    listed = json.loads(run("models", "--json").out)
    assert [(model["name"], model["default"]) for model in listed] == [("mnist", False), ("photo", True)]
    assert b"  It deflates\n" in run("models").out


@pytest.mark.parametrize("arguments", [[], ["compress"], ["nothing"], ["compress", "x.png", "--method", "best"]])
def test_wrong_usage_exits_with_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.code, "Usage: nvae-codec" in result.err) == (2, True)


def test_images_that_no_model_takes_are_refused(run: Run, tmp_path: Path) -> None:
    palette = tmp_path / "palette.png"
    Image.fromarray(ramp()).quantize(256).save(palette)
    result = run("compress", palette, "--method", "model")
    assert (result.code, "with or without alpha, not 8-bit" in result.err) == (1, True)
    assert run("compress", palette).code == 0
    again = run("compress", palette.with_suffix(".nvae"))
    assert (again.code, "compressed already" in again.err) == (1, True)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough memory"),
        (ZeroDivisionError("an\noversight"), "internal error (ZeroDivisionError: an oversight); --debug says where"),
    ],
)
def test_what_should_not_happen_is_one_line_too(
    run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(data: bytes) -> None:
        raise error

    monkeypatch.setattr("nvae_codec.images.read.read_image", fail)
    assert run("compress", photo).error_lines == [f"nvae-codec: {photo}: {line}"]
    assert "Traceback" not in run("compress", photo, "-v").err
    assert "Traceback" in run("compress", photo, "--debug").err


def test_an_interruption_leaves_nothing(run: Run, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nvae_codec.container.methods.code_model", interrupt)
    result = run("compress", photo)
    assert (result.code, result.err.strip()) == (130, "nvae-codec: interrupted")
    assert files_in(photo.parent) == ["photo.png"]


def test_what_needs_no_model_does_not_import_torch(photo: Path) -> None:
    script = f"""
import sys
from nvae_codec.cli.main import main
packed = {str(photo.with_suffix(".nvae"))!r}
codes = [main(["--help"]), main(["compress", {str(photo)!r}, "--method", "webp"])]
codes += [main(["info", packed]), main(["decompress", packed, "-f"]), main(["models"])]
sys.exit(any(codes) or "torch" in sys.modules or "rich" in sys.modules)
"""
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "--version" in finished.stdout


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [({}, "600"), ({"OMP_WAIT_POLICY": "active"}, None), ({"GOMP_SPINCOUNT": "7"}, "7")],
)
def test_threads_spin_briefly_unless_the_user_chose(chosen: dict[str, str], expected: str | None) -> None:
    code = (
        "import os, sys; from nvae_codec.cli import main\n"
        "sys.argv = ['nvae-codec', '--version']; early = 'torch' in sys.modules; main.run()\n"
        "print(os.environ.get('GOMP_SPINCOUNT'), early)"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    environment |= chosen
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == f"{expected} False"


def test_the_program_ends_immediately_after_exit_handlers_and_threads() -> None:
    code = (
        "import atexit, gc, sys, threading, time; from nvae_codec.cli import main\n"
        "class Kept:\n    def __del__(self): print('freed', flush=True)\n"
        "kept = Kept()\n"
        "def wait(): time.sleep(0.2); print('thread', flush=True)\n"
        "sys.argv = ['nvae-codec', *sys.argv[1:]]; code = main.run()\n"
        "atexit.register(lambda: print('called')); threading.Thread(target=wait).start()\n"
        "print(gc.get_threshold()[0], code); sys.exit(code)"
    )
    for arguments, expected in ((["--version"], 0), (["no-such-command"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONUNBUFFERED": ""},
        )
        assert done.returncode == expected
        assert done.stdout.splitlines()[-3:] == [f"{COLLECT_AFTER} {expected}", "thread", "called"]


def test_several_files_go_next_to_each(run: Run, photo: Path) -> None:
    other = photo.with_name("deep") / "b.png"
    other.parent.mkdir()
    other.write_bytes(photo.read_bytes())
    result = run("compress", photo, other, "-v", "--method", "model")
    assert result.code == 0
    assert files_in(photo.parent) == ["deep", "deep/b.nvae", "deep/b.png", "photo.nvae", "photo.png"]
    lines = result.err.splitlines()
    assert re.fullmatch(rf"{photo}: .* bytes, \S+ bits/dim, model photo \(\w{{8}}\), effort 5, \S+ s", lines[0])
    assert lines[2].startswith("2 images, ")
    several = run("info", photo.with_suffix(".nvae"), other.with_suffix(".nvae"))
    heads, *rows = several.out.decode().splitlines()
    assert heads.split()[5:8] == ["bytes", "bytes/image", "bits/dim"]
    assert [row.split()[-1] for row in rows] == [str(photo.with_suffix(".nvae")), str(other.with_suffix(".nvae"))]
    assert len(json.loads(run("info", "--json", photo.parent).out)) == 2


def test_a_requested_model_that_is_not_used_is_named(run: Run, photo: Path) -> None:
    Image.new("RGB", (64, 64)).save(photo)
    assert "warning: kept as " in run("compress", photo, "--model", "mnist").err
    assert "warning" not in run("compress", photo, "-f", "--model", "mnist", "--method", "auto").err
    packed = photo.with_name("all.nvae")
    assert "warning: 1 by " in run("pack", photo, "-o", packed, "--model", "mnist").err
