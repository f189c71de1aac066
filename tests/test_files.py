"""Files appear whole or not at all, replace nothing unasked, and are removed only if they are what was read."""

import os
import threading
from pathlib import Path

import pytest

from nvae_codec.errors import NvaeCodecError
from nvae_codec.files import Inputs, Snapshot, open_atomic, read_with_snapshot, remove_unchanged, write_atomic


def no_links(*_: object) -> None:
    raise OSError(95, "Operation not supported")


@pytest.mark.parametrize("links", [True, False])
def test_nothing_is_replaced_without_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "x"
    meanwhile = open_atomic(target, force=False)
    meanwhile.__enter__().write(b"new")
    target.write_bytes(b"appeared meanwhile")
    with pytest.raises(NvaeCodecError, match="exists already"):
        meanwhile.__exit__(None, None, None)
    assert target.read_bytes() == b"appeared meanwhile"
    assert list(tmp_path.iterdir()) == [target]
    write_atomic(target, b"new", force=True)
    target.unlink()
    write_atomic(target, b"new", force=False)
    assert (target.read_bytes(), list(tmp_path.iterdir())) == (b"new", [target])


def test_of_writers_that_race_without_force_one_wins(tmp_path: Path) -> None:
    target = tmp_path / "x"
    start, won = threading.Barrier(8), []

    def write(number: int) -> None:
        start.wait()
        try:
            write_atomic(target, bytes([number]) * 1000, force=False)
        except NvaeCodecError:
            return
        won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert target.read_bytes() == bytes(won) * 1000


def replace_it(path: Path) -> None:
    path.with_name("other").write_bytes(b"other")
    path.with_name("other").replace(path)


def rewrite_it(path: Path) -> None:
    path.write_bytes(b"other")


def rewrite_it_and_keep_its_time(path: Path) -> None:
    times = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [replace_it, rewrite_it, rewrite_it_and_keep_its_time])
def test_only_what_was_read_is_removed(tmp_path: Path, change: object) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"as it")
    data, snapshot = read_with_snapshot(path)
    assert callable(change)
    change(path)
    with pytest.raises(NvaeCodecError, match="changed after it was read, so it is kept"):
        remove_unchanged(path, snapshot, data)
    assert path.read_bytes() == b"other"
    data, snapshot = read_with_snapshot(path)
    remove_unchanged(path, snapshot, data)
    assert not path.exists()


def test_bytes_that_changed_within_the_clock_s_tick_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"as it")
    with pytest.raises(NvaeCodecError, match="so it is kept"):
        remove_unchanged(path, Snapshot.of(path.stat()), b"other")


def test_inputs_are_never_written_over(tmp_path: Path) -> None:
    path, link = tmp_path / "x", tmp_path / "link"
    path.write_bytes(b"an input")
    os.link(path, link)
    for target in (path, link):
        with pytest.raises(NvaeCodecError, match="one of the inputs"):
            write_atomic(target, b"new", force=True, inputs=Inputs([path]))
    assert path.read_bytes() == b"an input"


def test_permissions_and_times(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"")
    source.chmod(0o440)
    os.utime(source, ns=(10**18, 981158400 * 10**9))
    write_atomic(target, b"new", force=False, like=Snapshot.of(source.stat()))
    assert (target.stat().st_mode & 0o7777, target.stat().st_mtime_ns) == (0o440, 981158400 * 10**9)
    target.chmod(0o4755)
    write_atomic(target, b"new", force=True)
    assert target.stat().st_mode & 0o7777 == 0o755  # nobody runs what was written as another user
    write_atomic(target, b"new", force=True, mask=0o600)
    assert target.stat().st_mode & 0o7777 == 0o600


def test_an_unfinished_file_is_private(tmp_path: Path) -> None:
    with open_atomic(tmp_path / "x", force=False):
        (part,) = tmp_path.iterdir()
        assert part.stat().st_mode & 0o777 == 0o600


def test_the_disk_has_the_file_and_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, link = os.fsync, os.link

    def note_fsync(descriptor: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def note_link(*names: Path) -> None:
        events.append("name")
        link(*names)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "link", note_link)
    write_atomic(tmp_path / "x", b"new", force=False)
    assert events == ["file", "name", "folder"]


def test_a_pipe_without_a_reader_is_refused_and_one_with_a_reader_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(NvaeCodecError, match="cannot be written"):
        write_atomic(pipe, b"data", force=False)
    data = bytes(1 << 20)  # more than a pipe holds
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    while reader.is_alive():
        try:
            write_atomic(pipe, data, force=False)
            break
        except NvaeCodecError:  # the reader has not come yet
            continue
    reader.join()
    assert read == [data]
    assert pipe.is_fifo()


def test_a_target_is_refused_for_a_written_file_and_not_for_its_reused_number(tmp_path: Path) -> None:
    first, second, inputs = tmp_path / "first", tmp_path / "second", Inputs()
    first.write_bytes(b"written")
    inputs.add_written(first)
    second.hardlink_to(first)
    with pytest.raises(NvaeCodecError, match="was written just now for another input"):
        inputs.refuse(second)
    # as when another process replaces the first file, and the file system gives its inode to the second
    first.unlink()
    first.write_bytes(b"of another process")
    inputs.refuse(second)
