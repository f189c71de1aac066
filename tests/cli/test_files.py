import importlib
import os
from pathlib import Path

import click
import pytest

from nvae_codec.errors import NvaeCodecError

files = importlib.import_module("nvae_codec.cli.files")


def plan(inputs: list[str], output: str | None = None) -> list[tuple[str | None, str | None]]:
    jobs = files.plan_jobs(inputs, output, lambda path: path.stem + ".nvae", (".png",)).jobs
    return [(job.source and str(job.source), job.target and str(job.target)) for job in jobs]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "tree/b.png", "tree/deep/c.PNG", "tree/deep/notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("out").mkdir()


@pytest.mark.parametrize(
    ("inputs", "output", "expected"),
    [
        (["a.png"], None, [("a.png", "a.nvae")]),
        (["tree/b.png"], None, [("tree/b.png", "tree/b.nvae")]),
        (["a.png"], "x", [("a.png", "x")]),
        (["a.png"], "out", [("a.png", "out/a.nvae")]),
        (["a.png"], "new/", [("a.png", "new/a.nvae")]),
        (["a.png"], "-", [("a.png", None)]),
        (["-"], None, [(None, None)]),
        (["-"], "-", [(None, None)]),
        (["-"], "x", [(None, "x")]),
        (["a.png", "tree/b.png"], "new", [("a.png", "new/a.nvae"), ("tree/b.png", "new/b.nvae")]),
        (["tree"], "new", [("tree/b.png", "new/b.nvae"), ("tree/deep/c.PNG", "new/deep/c.nvae")]),
        (["missing.png"], None, [("missing.png", "missing.nvae")]),
        (["a.png", "tree/b.png"], None, [("a.png", "a.nvae"), ("tree/b.png", "tree/b.nvae")]),
    ],
)
def test_where_results_go(inputs: list[str], output: str | None, expected: list[tuple[str, str]]) -> None:
    assert plan(inputs, output) == expected


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["a.png", "tree/b.png"], "-"),
        (["tree"], None),
        (["tree"], "-"),
        (["tree"], "a.png"),
        (["-", "a.png"], "out"),
        (["-"], "out"),
    ],
)
def test_what_cannot_be_is_wrong_usage(inputs: list[str], output: str | None) -> None:
    with pytest.raises(click.UsageError):
        plan(inputs, output)


def test_inputs_that_would_go_to_one_file_keep_their_suffixes(tmp_path: Path) -> None:
    for name in ("tree/b.jpg", "tree/b.png.jpg", "other/a.png", "other/c.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    jobs = files.plan_jobs(["tree"], "new", lambda path: path.stem + ".nvae", (".png", ".jpg")).jobs
    assert [(job.source.name, job.target.name, job.problem) for job in jobs] == [
        ("b.jpg", "b.jpg.nvae", ""),
        ("b.png", "b.png.nvae", ""),
        ("b.png.jpg", "b.png.jpg.nvae", ""),
        ("c.PNG", "c.nvae", ""),
    ]
    jobs = files.plan_jobs(["a.png", "other"], "new", lambda path: path.stem + ".nvae", (".png",)).jobs
    assert [bool(job.problem) for job in jobs] == [True, True, False]


def test_nothing_is_left_of_a_write_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    before = sorted(Path().rglob("*"))
    with pytest.raises(NvaeCodecError, match=r"^a\.nvae cannot be written: No space left on device$"):
        files.write_target(files.Job(Path("a.png"), Path("a.nvae")), b"data", force=False)
    assert sorted(Path().rglob("*")) == before


def test_a_target_that_cannot_be_is_named() -> None:
    with pytest.raises(NvaeCodecError, match=r"^none/a\.nvae cannot be written: No such file or directory$"):
        files.write_target(files.Job(Path("a.png"), Path("none/a.nvae")), b"data", force=False)
    with pytest.raises(NvaeCodecError, match=r"^a\.png/x/a\.nvae cannot be written: Not a directory$"):
        files.write_target(files.Job(Path("a.png"), Path("a.png/x/a.nvae"), in_folder=True), b"data", force=False)


def test_a_device_is_written_to_and_not_replaced() -> None:
    files.write_target(files.Job(Path("a.png"), Path("/dev/null")), b"data", force=False)
    assert not Path("/dev/null").is_file()
