"""Every file of a folder is taken or counted."""

import os
from pathlib import Path

import pytest

from nvae_codec.images.find import find_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for name in ("a.png", "deep/b.JFIF", "deep/c.jpe", "e.dib", "f.pbm", "d.gif", "notes.txt", "made.nvae"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"P5")
    (folder / "._a.png").write_bytes(b"\x00\x05\x16\x07\x00\x02")
    (folder / "._b.png").write_bytes(b"something else of a system")
    (folder / ".DS_Store").touch()
    (folder / "linked.png").symlink_to(folder / "a.png")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    return folder


def test_every_file_is_taken_or_counted(folder: Path) -> None:
    found = find_files(folder)

    def name(paths: list[Path]) -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in paths)

    assert name(found.files) == ["a.png", "deep/b.JFIF", "deep/c.jpe", "e.dib", "f.pbm", "linked.png"]
    assert name(found.other) == ["._b.png", "d.gif", "notes.txt"]
    assert name(found.links) == ["elsewhere"]
    assert name(found.special) == ["pipe.png"]
    assert name(found.unreadable) == ["gone", "gone.png"]
    line = found.summarize()
    assert line.startswith("left out: 2 that cannot be read (")
    assert all(
        part in line for part in ("3 of no known kind", "1 that lead to folders", "1 that are no files", "d.gif")
    )
    assert "\n" not in line


def test_a_folder_that_may_not_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "private" / "a.png").touch()
    (tmp_path / "a.png").touch()
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # which another user could not, through the folders above
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # permissions do not bind root
    else:
        (tmp_path / "private").chmod(0)
    try:
        found = find_files(Path())
    finally:
        if root:
            os.seteuid(0)
        (tmp_path / "private").chmod(0o700)
    assert [path.name for path in found.files] == ["a.png"]
    assert [path.name for path in found.unreadable] == ["private"]


def test_many_files_left_are_named_in_one_short_line(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number}.txt").touch()
    assert len(find_files(tmp_path).summarize()) < 2000
    assert find_files(tmp_path).summarize().startswith("left out: 1000 of no known kind")
