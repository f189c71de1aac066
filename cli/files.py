"""From the inputs and -o to a list of jobs, and the reading, writing and removing of their files.

A target appears whole or not at all: it is written under a temporary name beside its place and then renamed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import click

from nvae_codec.errors import NvaeCodecError


@dataclass(frozen=True)
class Job:
    """One file to read and where its result goes; None stands for stdin and stdout."""

    source: Path | None
    target: Path | None
    in_folder: bool = False  # whether the target's folders may have to be made
    problem: str = ""  # why there is nothing to do

    @property
    def name(self) -> str:
        """What messages call it."""
        return "stdin" if self.source is None else str(self.source)

    @property
    def size(self) -> int:
        """Bytes of the source, at least 1; 1 where that is not known."""
        try:
            return max(1, self.source.stat().st_size) if self.source is not None else 1
        except OSError:
            return 1


def plan_jobs(
    inputs: Sequence[str], output: str | None, rename: Callable[[str], str], suffixes: Collection[str]
) -> list[Job]:
    """Where each input goes.

    Without ``output``, the result of a file goes next to it and that of stdin to stdout. ``output`` is a file, a folder
    or ``-`` for a single file; for several inputs and for folders, of which the files with these ``suffixes`` are
    taken, it is a folder, in which folders are mirrored. Raises click.UsageError where that cannot be.
    """
    folders = any(Path(name).is_dir() for name in inputs)
    many = len(inputs) > 1 or folders
    if "-" in inputs and many:
        raise click.UsageError("- (stdin) does not go together with other inputs")
    if many and output is None and not folders:
        sources = [Path(name) for name in inputs]
        return _mark_collisions([Job(source, source.with_name(rename(source.name))) for source in sources])
    if many:
        if output is None or output == "-":
            raise click.UsageError("a folder needs a folder to go to: -o FOLDER")
        if Path(output).exists() and not Path(output).is_dir():
            raise click.UsageError(f"several inputs, or a folder, need a folder to go to; {output} is a file")
        return _mark_collisions(
            [job for name in inputs for job in _plan_mirrored(Path(name), Path(output), rename, suffixes)]
        )
    source = None if inputs[0] == "-" else Path(inputs[0])
    to_folder = output is not None and output != "-" and (Path(output).is_dir() or output.endswith(("/", os.sep)))
    if output == "-" or (output is None and source is None):
        return [Job(source, None)]
    if source is None:
        if to_folder:
            raise click.UsageError("what comes from stdin needs a file to go to, not a folder")
        return [Job(None, Path(str(output)))]
    if output is None:
        return [Job(source, source.with_name(rename(source.name)))]
    return [Job(source, Path(output) / rename(source.name) if to_folder else Path(output), in_folder=to_folder)]


def find_jobs(names: Sequence[str], suffixes: Collection[str]) -> list[Job]:
    """The jobs of a command that writes nothing: files, stdin, and all files of folders with these suffixes."""
    return [job for name in names for job in _find_jobs(name, suffixes)]


def _find_jobs(name: str, suffixes: Collection[str]) -> list[Job]:
    path = Path(name)
    if name == "-":
        return [Job(None, None)]
    if not path.is_dir():
        return [Job(path, None)]
    return [Job(file, None) for file in _walk(path, suffixes)] or [_empty(path, suffixes)]


def _plan_mirrored(
    source: Path, folder: Path, rename: Callable[[str], str], suffixes: Collection[str]
) -> Iterator[Job]:
    if not source.is_dir():
        yield Job(source, folder / rename(source.name), in_folder=True)
        return
    files = _walk(source, suffixes)
    for file in files:
        yield Job(file, folder / file.relative_to(source).with_name(rename(file.name)), in_folder=True)
    if not files:
        yield _empty(source, suffixes)


def _walk(folder: Path, suffixes: Collection[str]) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in suffixes and file.is_file())


def _empty(folder: Path, suffixes: Collection[str]) -> Job:
    return Job(folder, None, problem=f"no files in it that end in {', '.join(sorted(suffixes))}")


def _mark_collisions(jobs: list[Job]) -> list[Job]:
    """Sources with one target among them: none is done, as either would overwrite the other."""
    counts = Counter(job.target for job in jobs)
    return [
        replace(job, problem=f"another input would go to {job.target} too")
        if job.target is not None and counts[job.target] > 1
        else job
        for job in jobs
    ]


def read_source(job: Job) -> bytes:
    """The bytes of a job's file, or all of stdin."""
    if job.source is not None:
        return job.source.read_bytes()
    if sys.stdin is None:
        raise NvaeCodecError("it is closed")
    return sys.stdin.buffer.read()


def check_target(job: Job, *, force: bool) -> None:
    """Raise NvaeCodecError, before any work, where the result could not be written."""
    if job.target is None:
        if sys.stdout is None:
            raise NvaeCodecError("stdout is closed")
        if sys.stdout.isatty() and not force:
            raise NvaeCodecError("binary data does not go to a terminal (-f sends it there, -o FILE elsewhere)")
        return
    if job.target.is_dir():
        raise NvaeCodecError(f"{job.target} is a folder")
    if job.target.is_file():
        if job.source is not None and job.source.exists() and job.source.samefile(job.target):
            raise NvaeCodecError("it would overwrite itself")
        if not force:
            raise NvaeCodecError(f"{job.target} exists already (-f overwrites it)")
    if not job.in_folder:
        check_folder(job.target)


def check_folder(target: Path) -> None:
    """Raise NvaeCodecError, before any work, where there is no folder for the target."""
    try:
        os.stat(os.path.join(target.parent, "."))  # noqa: PTH116, PTH118 (a Path drops the dot, which asks for a folder)
    except OSError as error:
        raise _cannot_write(target, error) from error


def write_target(job: Job, data: bytes, *, force: bool) -> None:
    """Write a job's result; raises NvaeCodecError, which names the target, and then leaves nothing behind."""
    check_target(job, force=force)
    target = job.target
    if target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        if job.in_folder:
            target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(target, error) from error
    write_whole(target, data, like=job.source)


def write_whole(target: Path, data: bytes, *, like: Path | None = None) -> None:
    """Write a file as ``open_beside`` does, or to a device or a pipe; raises NvaeCodecError, which names the target."""
    if not _is_special(target):
        with open_beside(target, like=like) as file:
            file.write(data)
        return
    try:
        target.write_bytes(data)
    except OSError as error:
        raise _cannot_write(target, error) from error


@contextlib.contextmanager
def open_beside(target: Path, *, like: Path | None = None) -> Iterator[BinaryIO]:
    """A file that takes the target's place once it is written, and vanishes where that fails.

    Killed at any moment, or with the power gone, the target is the old file, the new one or none, never a part; what
    is left then is a hidden .part beside it. A link stays one: what it leads to is replaced. A file that is replaced
    keeps its permissions, and a new one is as private as the file ``like``. Raises NvaeCodecError, which names the
    target, also where that is a device or a pipe.
    """
    if _is_special(target):
        raise NvaeCodecError(f"{target} cannot be written: it is no file")
    place = Path(os.path.realpath(target))
    part = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        file = part.open("xb")
    except OSError as error:  # its words are of the temporary file, the message's of the target
        raise _cannot_write(target, error) from error
    try:
        with file:
            part.chmod(_permissions(part, place, like))
            yield file
            file.flush()
            os.fsync(file.fileno())  # before the name: else a disk may know the name first, and lose the bytes
        part.replace(place)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise _cannot_write(target, error) from error
        raise


@contextlib.contextmanager
def hold(target: Path) -> Iterator[None]:
    """Wait until no other process holds the file at ``target``, and hold it: for what makes a new one out of the old.

    Where the system has no such locks, nothing is held.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    while True:
        with target.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(file.fileno()), target.stat()):  # or it was replaced while this waited
                yield
                return


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """What goes wrong with a file, with its name before the reason."""
    try:
        yield
    except NvaeCodecError as error:
        raise type(error)(f"{path}: {error}") from error


def _is_special(target: Path) -> bool:
    """Whether a target is a device, a pipe or a folder."""
    try:
        return not stat.S_ISREG(target.stat().st_mode)
    except OSError:  # opening it says what is wrong with it
        return False


def _permissions(new: Path, place: Path, like: Path | None) -> int:
    """What a new file may be used for by whom once it is at its place."""
    if place.exists():
        return stat.S_IMODE(place.stat().st_mode)
    mode = stat.S_IMODE(new.stat().st_mode)
    return mode if like is None or not like.is_file() else mode & like.stat().st_mode


def _cannot_write(target: Path, error: OSError) -> NvaeCodecError:
    return NvaeCodecError(f"{target} cannot be written: {error.strerror or error}")
