"""What a command says: one line an error on stderr, more with -v, and a progress bar where someone watches."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from nvae_codec.errors import NvaeCodecError

from .files import Job


def print_error(reason: str, name: str = "") -> None:
    """One line on stderr: ``nvae-codec: FILE: reason``."""
    print_line(" ".join(f"nvae-codec: {name}{': ' if name else ''}{reason}".split()))


def print_line(line: str) -> None:
    """A line on stderr; on a terminal it takes the progress bar's, which is then drawn again below."""
    print(("\r\x1b[K" if sys.stderr.isatty() else "") + line, file=sys.stderr)


def explain(error: BaseException) -> str:
    """An error in one plain line."""
    if isinstance(error, NvaeCodecError):
        return str(error)
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error):
        return "not enough memory"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"internal error ({type(error).__name__}: {error}); -v says where"


def run_jobs(jobs: Sequence[Job], work: Callable[[Job], str], *, quiet: bool, verbose: bool) -> int:
    """Do the work of each job, go on after failures, and return the exit code: 0, or 1 where one failed.

    ``work`` returns a line that is shown with -v.
    """
    failed = False
    label = jobs[0].name if len(jobs) == 1 else f"{len(jobs)} files"
    with show_progress(label, sum(job.size for job in jobs), quiet=quiet) as advance:
        for job in jobs:
            try:
                if job.problem:
                    raise NvaeCodecError(job.problem)
                line = work(job)
            except (KeyboardInterrupt, SystemExit, GeneratorExit, BrokenPipeError):
                raise  # click ends quietly where nobody reads stdout any longer
            except BaseException as error:  # a panic of constriction is no Exception
                failed = True
                print_error(explain(error), job.name)
                if verbose:
                    traceback.print_exc()
            else:
                if verbose:
                    print_line(line)
            advance(job.size)
    return int(failed)


@contextlib.contextmanager
def show_progress(label: str, total: int, *, quiet: bool, unit: str = "") -> Iterator[Callable[[int], None]]:
    """A bar up to ``total``, which the caller advances, on a terminal; elsewhere nothing.

    With a ``unit`` it says how many of them a second.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(label, total=total)

        def advance(amount: int) -> None:
            bar.advance(task, amount)
            done = bar.tasks[task]
            if unit and done.elapsed:
                bar.update(task, description=f"{label}, {done.completed / done.elapsed:.1f} {unit}/s")

        yield advance
