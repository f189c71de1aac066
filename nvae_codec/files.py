"""Files that are written whole or not at all, and files that are removed only if they are still what was read."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nvae_codec.errors import NvaeCodecError


@dataclass(frozen=True)
class Snapshot:
    """Which file was read, and its state then: device, inode, size, and times in nanoseconds."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int
    accessed: int
    mode: int

    @classmethod
    def of(cls, found: os.stat_result) -> Snapshot:
        """The snapshot that ``os.stat`` or ``os.fstat`` gave."""
        return cls(
            found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_atime_ns,
            found.st_mode,
        )  # fmt: skip

    def is_still(self, path: Path) -> bool:
        """Whether ``path`` leads to the same file, unchanged since."""
        try:
            return self.is_same(path.stat())
        except OSError:
            return False

    def is_same(self, found: os.stat_result) -> bool:
        """Whether ``os.stat`` or ``os.fstat`` found the same file, unchanged since."""
        now = Snapshot.of(found)
        return (self.device, self.inode, self.size, self.modified, self.changed) == (
            now.device, now.inode, now.size, now.modified, now.changed,
        )  # fmt: skip


def read_with_snapshot(path: Path) -> tuple[bytes, Snapshot]:
    """A file's bytes and its state; raises OSError, and NvaeCodecError where it changed while it was read."""
    with path.open("rb") as file:
        before = Snapshot.of(os.fstat(file.fileno()))
        data = file.read()
        after = Snapshot.of(os.fstat(file.fileno()))
    regular = stat.S_ISREG(before.mode)
    if regular and ((before.size, before.modified) != (after.size, after.modified) or before.size != len(data)):
        raise NvaeCodecError("it changed while it was read")
    return data, after


def remove_unchanged(path: Path, snapshot: Snapshot, data: bytes | None = None) -> None:
    """Remove a file that is still what was read, ``data`` included; raises NvaeCodecError where it is not, and OSError.

    What replaces it must be on the disk before: ``open_atomic`` takes care of that.
    """
    if not snapshot.is_still(path) or (data is not None and path.read_bytes() != data):
        raise NvaeCodecError("it changed after it was read, so it is kept")
    path.unlink()


def shared_mode(paths: Iterable[Path]) -> int:
    """Who may do what with a file that holds what is in all of these: what each of them allows."""
    mode = 0o777
    for path in paths:
        with contextlib.suppress(OSError):
            found = path.stat()
            mode &= found.st_mode if stat.S_ISREG(found.st_mode) else 0o777
    return mode | 0o600


class Inputs:
    """The files that a command reads, and those that it has written, none of which it may write over."""

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        self._known: dict[tuple[int, int], Path] = {}
        self._written: dict[tuple[int, int], Path] = {}
        for path in paths:
            _add(self._known, Path(path))

    def refuse(self, target: Path) -> None:
        """Raise NvaeCodecError where ``target`` is one of them."""
        if _leads_to_one(target, self._known):
            raise NvaeCodecError(f"{target} is one of the inputs; nothing is written over an input")
        if _leads_to_one(target, self._written):
            raise NvaeCodecError(f"{target} was written just now for another input, by another of its names")

    def add_written(self, target: Path) -> None:
        """Count ``target`` among the files that were written: two names may lead to one, by case or through links."""
        _add(self._written, target)


def _add(files: dict[tuple[int, int], Path], path: Path) -> None:
    with contextlib.suppress(OSError):
        files[_identity(path.stat())] = path


def _leads_to_one(target: Path, files: dict[tuple[int, int], Path]) -> bool:
    """Whether a target is one of the files: file systems give the number of a file that is gone to a new one."""
    with contextlib.suppress(OSError):
        identity = _identity(target.stat())
        return identity in files and _identity(files[identity].stat()) == identity
    return False


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def check_absent(target: Path, *, force: bool) -> None:
    """Raise NvaeCodecError, before any work, where ``target`` is a folder, or a file that may not be overwritten."""
    with contextlib.suppress(OSError):  # opening it says what is wrong with it
        if target.is_dir():
            raise NvaeCodecError(f"{target} is a folder")
        if not force and target.is_file():
            raise _exists(target)


def check_folder(target: Path) -> None:
    """Raise NvaeCodecError, before any work, where there is no folder for the target."""
    try:
        os.stat(os.path.join(target.parent, "."))  # noqa: PTH116, PTH118 (a Path drops the dot, which asks for a folder)
    except OSError as error:
        raise cannot_write(target, error) from error


def is_special(target: Path) -> bool:
    """Whether a target is a device, a pipe, a socket or a folder."""
    try:
        return not stat.S_ISREG(target.stat().st_mode)
    except OSError:  # opening it says what is wrong with it
        return False


def write_atomic(
    target: Path,
    data: bytes,
    *,
    force: bool,
    like: Snapshot | None = None,
    mask: int = 0o777,
    inputs: Inputs | None = None,
) -> None:
    """Write a file as ``open_atomic`` does, or to a device or a pipe; raises NvaeCodecError, which names the target."""
    if not is_special(target):
        with open_atomic(target, force=force, like=like, mask=mask, inputs=inputs) as file:
            file.write(data)
        return
    try:
        descriptor = os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe without a reader would hang
        with os.fdopen(descriptor, "wb") as file:
            os.set_blocking(descriptor, True)
            file.write(data)
    except OSError as error:
        raise cannot_write(target, error) from error


@contextlib.contextmanager
def open_atomic(
    target: Path, *, force: bool, like: Snapshot | None = None, mask: int = 0o777, inputs: Inputs | None = None
) -> Iterator[BinaryIO]:
    """A file that appears at ``target`` once it is written, and vanishes where that fails.

    Killed at any moment, or with the power gone, the target is the old file, the new one or none, never a part; what
    may be left then is a hidden .part next to it. Without ``force`` nothing is replaced, not even a file that appears
    meanwhile. A link stays one: what it leads to is replaced. A file that is replaced keeps its permissions; a new one
    is as private as the file ``like``, whose modification time it gets, and as ``mask``. None of the ``inputs``
    is written over.

    Raises NvaeCodecError, which names the target, also where that is a device or a pipe.
    """
    with replace_atomic(target, force=force, like=like, mask=mask, inputs=inputs) as part:
        try:
            file = part.open("r+b")
        except OSError as error:
            raise cannot_write(target, error) from error
        with file:
            yield file


@contextlib.contextmanager
def replace_atomic(
    target: Path, *, force: bool, like: Snapshot | None = None, mask: int = 0o777, inputs: Inputs | None = None
) -> Iterator[Path]:
    """``open_atomic`` for those who write by a path: that of an empty file, which takes the target's place."""
    if is_special(target):
        raise NvaeCodecError(f"{target} cannot be written: it is no file")
    check_absent(target, force=force)
    place = Path(os.path.realpath(target))
    part = place.with_name(f".{secrets.token_hex(8)}.part")
    try:  # from here on, as a signal may end this right after the file was made
        part.touch(exist_ok=False)
        usual = part.stat().st_mode
        part.chmod(0o600)
        yield part
        if inputs is not None:
            inputs.refuse(target)
        with part.open("r+b") as file:
            part.chmod(_permissions(usual, place, like) & mask)
            if like is not None and stat.S_ISREG(like.mode):
                os.utime(part, ns=(like.accessed, like.modified))
            os.fsync(file.fileno())  # before the name: else a disk may know the name first, and lose the bytes
        _publish(part, place, target, force=force)
        _flush_folder(place.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):  # its words are of the temporary file, the message's of the target
            raise cannot_write(target, error) from error
        raise


def _publish(part: Path, place: Path, target: Path, *, force: bool) -> None:
    if force:
        part.replace(place)
        return
    try:
        os.link(part, place)  # which, other than a rename, replaces nothing
    except FileExistsError:
        raise _exists(target) from None
    except (OSError, NotImplementedError):  # a file system without links: take the name, then replace what is ours
        try:
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            raise _exists(target) from None
        part.replace(place)
    else:
        part.unlink()


def _flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _permissions(usual: int, place: Path, like: Snapshot | None) -> int:
    """Who may do what with a file at its place; never to run it as another user, as an old one there may say."""
    if place.exists():
        return place.stat().st_mode & 0o777
    return usual & 0o777 & (0o777 if like is None or not stat.S_ISREG(like.mode) else like.mode)


def _exists(target: Path) -> NvaeCodecError:
    return NvaeCodecError(f"{target} exists already (-f overwrites it)")


def cannot_write(target: Path, error: OSError) -> NvaeCodecError:
    """What is said of a target that the system refuses."""
    return NvaeCodecError(f"{target} cannot be written: {error.strerror or error}")
