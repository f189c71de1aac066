"""From the inputs and -o to a list of jobs, and the reading, writing and removing of their files."""

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from nvae_codec.errors import NvaeCodecError
from nvae_codec.files import (
    Inputs,
    Snapshot,
    cannot_write,
    check_absent,
    check_folder,
    is_special,
    read_with_snapshot,
    remove_unchanged,
    write_atomic,
)
from nvae_codec.images.find import SUFFIXES, Findings, find_files

Rename = Callable[[Path], str]
"""The name of the file that one becomes."""


@dataclass(frozen=True)
class Job:
    """One file to read and where its result goes; None stands for stdin and stdout."""

    source: Path | None
    target: Path | None
    in_folder: bool = False  # whether the target's folders are created
    problem: str = ""  # why there is nothing to do

    @property
    def name(self) -> str:
        """The name in messages."""
        return "stdin" if self.source is None else str(self.source)

    @property
    def size(self) -> int:
        """Bytes of the source, at least 1; 1 if unknown."""
        try:
            return max(1, self.source.stat().st_size) if self.source is not None else 1
        except OSError:
            return 1


@dataclass(frozen=True)
class Plan:
    """The jobs of a command, the files that it reads, and those in folders that it leaves out."""

    jobs: list[Job]
    inputs: Inputs = field(default_factory=Inputs)
    left: Findings = field(default_factory=Findings)


@dataclass(frozen=True)
class Source:
    """What was read: the bytes, and the state of their file, unless they came from stdin."""

    data: bytes
    snapshot: Snapshot | None = None


def plan_jobs(
    inputs: Sequence[str], output: str | None, rename: Rename, suffixes: Collection[str], *, others: bool = True
) -> Plan:
    """Plan the target of each input.

    Files go next to their sources; one may go to the file ``output`` or to ``-``; stdin goes to stdout or to the file
    ``output``; files go into the folder ``output``, and so do folders, of which the files with these ``suffixes`` are
    taken, mirrored. With ``others``, files of other kinds in them count as left out.

    Raises click.UsageError for impossible combinations.
    """
    many = len(inputs) > 1
    with_folder = any(name != "-" and Path(name).is_dir() for name in inputs)
    if "-" in inputs and many:
        raise click.UsageError("- (stdin) does not go together with other inputs")
    if (with_folder and output is None) or ((with_folder or many) and output == "-"):
        raise click.UsageError("a folder, or several inputs, need a folder to go to: -o FOLDER")
    if not (with_folder or many):
        job = _plan_one(inputs[0], output, rename)
        return Plan([job], Inputs(filter(None, [job.source])))
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise click.UsageError(f"several inputs, or a folder, need a folder to go to; {output} is a file")
    left = Findings()
    jobs = [job for name in inputs for job in _plan_mirrored(Path(name), output, rename, suffixes, left)]
    if not others:
        left.other.clear()
    return Plan(_part_collisions(jobs, rename), Inputs(job.source for job in jobs if job.source is not None), left)


def _plan_one(name: str, output: str | None, rename: Rename) -> Job:
    source = None if name == "-" else Path(name)
    to_folder = output is not None and output != "-" and (Path(output).is_dir() or output.endswith(("/", os.sep)))
    if output == "-" or (output is None and source is None):
        return Job(source, None)
    if source is None:
        if to_folder:
            raise click.UsageError("what comes from stdin needs a file to go to, not a folder")
        return Job(None, Path(str(output)))
    if output is None:
        return Job(source, source.with_name(rename(source)))
    return Job(source, Path(output) / rename(source) if to_folder else Path(output), in_folder=to_folder)


def find_jobs(inputs: Sequence[str], suffixes: Collection[str]) -> Plan:
    """The jobs of a command that writes nothing: files, stdin, and all files of folders with these suffixes."""
    plan = Plan([])
    for name in inputs:
        path = Path(name)
        if name == "-" or not path.is_dir():
            plan.jobs.append(Job(None if name == "-" else path, None))
            continue
        found = find_files(path, suffixes)
        plan.jobs.extend([Job(file, None) for file in found.files] or _empty(path, suffixes, found))
        found.other.clear()
        plan.left.add(found)
    return plan


def _plan_mirrored(
    source: Path, output: str | None, rename: Rename, suffixes: Collection[str], left: Findings
) -> Iterator[Job]:
    if not source.is_dir():
        folder = source.parent if output is None else Path(output)
        yield Job(source, folder / rename(source), in_folder=output is not None)
        return
    found = find_files(source, suffixes)
    left.add(found)
    for file in found.files:
        yield Job(file, Path(str(output)) / file.relative_to(source).with_name(rename(file)), in_folder=True)
    yield from [] if found.files else _empty(source, suffixes, found)


def _empty(folder: Path, suffixes: Collection[str], found: Findings) -> list[Job]:
    if found.unreadable:  # which is said
        return []
    return [Job(folder, None, problem=f"no files in it that end in {', '.join(sorted(suffixes))}")]


def _part_collisions(jobs: list[Job], rename: Rename) -> list[Job]:
    """Sources with the same target keep their suffixes: p.jpg and p.png become p.jpg.nvae and p.png.nvae.

    Sources in different folders may still have the same target. They are refused, since one would overwrite the other.
    """
    tried: set[int] = set()
    while True:
        counts = Counter(job.target for job in jobs)
        same = [at for at, job in enumerate(jobs) if job.target is not None and counts[job.target] > 1]
        if not set(same) - tried:
            break
        for at in set(same) - tried:
            job = jobs[at]
            assert job.source is not None
            assert job.target is not None
            name = rename(job.source)
            longer = job.source.name + Path(name).suffix
            jobs[at] = replace(job, target=job.target.with_name(longer))
        tried.update(same)
    return [
        replace(job, problem=f"another input would go to {job.target} too") if at in same else job
        for at, job in enumerate(jobs)
    ]


def find_all_inputs(paths: Iterable[Path | None]) -> Inputs:
    """All files that a command reads for these files and folders: images, arrays and checkpoints."""
    suffixes = SUFFIXES | {".npz", ".nvae", ".safetensors"}
    return Inputs(
        file
        for path in paths
        if path is not None
        for file in (find_files(path, suffixes).files if path.is_dir() else [path])
    )


def check_outputs(targets: Iterable[Path | None], inputs: Inputs) -> None:
    """Raise NvaeCodecError, before any work, if one of these files cannot be written."""
    for target in filter(None, targets):
        check_folder(target)
        inputs.refuse(target)


def read_source(job: Job) -> Source:
    """The bytes of a job's file, or all of stdin."""
    if job.source is not None:
        return Source(*read_with_snapshot(job.source))
    if sys.stdin is None:
        raise NvaeCodecError("it is closed")
    return Source(sys.stdin.buffer.read())


def check_target(job: Job, *, force: bool) -> None:
    """Raise NvaeCodecError, before any work, if the result cannot be written."""
    if job.target is None:
        if sys.stdout is None:
            raise NvaeCodecError("stdout is closed")
        if sys.stdout.isatty() and not force:
            raise NvaeCodecError("binary data does not go to a terminal (-f sends it there, -o FILE elsewhere)")
        return
    if job.source is not None and job.target.is_file() and job.source.exists() and job.source.samefile(job.target):
        raise NvaeCodecError("it would overwrite itself")
    check_absent(job.target, force=force)
    if not job.in_folder:
        check_folder(job.target)


def write_target(
    job: Job, data: bytes, *, force: bool, like: Snapshot | None = None, mask: int = 0o777, inputs: Inputs | None = None
) -> None:
    """Write a job's result. On failure, raises NvaeCodecError, which names the target, and leaves no file."""
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
        raise cannot_write(target, error) from error
    write_atomic(target, data, force=force, like=like, mask=mask, inputs=inputs)
    if inputs is not None:
        inputs.add_written(target)


def remove_source(job: Job, source: Source) -> None:
    """Remove a file whose result is written. Raises NvaeCodecError if the file has changed since it was read."""
    if job.source is not None and source.snapshot is not None and job.target is not None:
        if is_special(job.target):
            raise NvaeCodecError(f"it is kept, as {job.target} is no file")
        remove_unchanged(job.source, source.snapshot, source.data)


@contextlib.contextmanager
def hold(target: Path) -> Iterator[None]:
    """Lock the file at ``target`` while it is replaced by a new version of itself; waits for other processes.

    For a file that does not exist yet, the folder is locked. Without such locks in the system, there is no lock.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    while True:
        descriptor = os.open(_lockable(target), os.O_RDONLY | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), _lockable(target).stat()):  # or it was replaced meanwhile
                yield
                return
        finally:
            os.close(descriptor)


def _lockable(target: Path) -> Path:
    return target if target.exists() else target.parent


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """A context that puts a file's name before the messages of errors."""
    try:
        yield
    except NvaeCodecError as error:
        raise type(error)(f"{path}: {error}") from error
