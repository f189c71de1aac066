"""The output of commands on stderr: a line per error, progress on a terminal, details with -v, a summary."""

from __future__ import annotations

import contextlib
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import click

from nvae_codec.errors import NvaeCodecError
from nvae_codec.images.find import Findings
from nvae_codec.progress import listen_to_progress

from .files import Job

_CONTROLS = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

Result = TypeVar("Result")

AS_PIXELS = "as pixels, not as the file"
"""The note of images whose file, other than a PNG's, does not come back."""

SECONDS_BETWEEN_LINES = 10.0
"""With -v and no terminal, progress is a line this often."""


def print_error(reason: str, name: str = "") -> None:
    """One line on stderr: ``nvae-codec: FILE: reason``."""
    print_line(" ".join(f"nvae-codec: {name}{': ' if name else ''}{reason}".split()))


def print_line(line: str) -> None:
    """A line on stderr; on a terminal it replaces the progress bar, which is then drawn again below."""
    print(("\r\x1b[K" if sys.stderr.isatty() else "") + escape(line), file=sys.stderr)


def echo(text: str) -> None:
    """Print lines on stdout, which may contain names of files and models."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(escape(text).encode(encoding, "backslashreplace").decode(encoding))


def escape(text: str) -> str:
    """Text that is safe on a terminal: characters that control terminals, or the order of text, are spelled out."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def explain(error: BaseException) -> str:
    """An error in one plain line."""
    if isinstance(error, NvaeCodecError):
        return str(error)
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error):
        return "not enough memory"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"internal error ({type(error).__name__}: {error}); --debug says where"


def format_bytes(count: float) -> str:
    """Three digits and a unit: ``5.25 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


@dataclass(frozen=True)
class Problem:
    """The reason and place of a failure; worker processes send it to the process that reports it."""

    name: str
    reason: str
    traceback: str

    @classmethod
    def of(cls, name: str, error: BaseException) -> Problem:
        """The problem that an error is."""
        return cls(name, explain(error), "".join(traceback.format_exception(error)))


@dataclass(frozen=True)
class Outcome:
    """The result of one input. text: the line for -v; bytes_in, bytes_out: 0 where they have no meaning."""

    text: str
    images: int = 1
    pixels: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    note: str = ""  # the summary counts outcomes by their notes


@dataclass
class Totals:
    """The sums of a command's outcomes, for its summary."""

    images: int = 0
    pixels: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    start: float = field(default_factory=time.monotonic)

    def add(self, done: Outcome) -> None:
        """Count one more."""
        self.images += done.images
        self.pixels += done.pixels
        self.bytes_in += done.bytes_in
        self.bytes_out += done.bytes_out
        if done.note:
            self.notes[done.note] += 1

    def speed(self, more: int = 0) -> str:
        """``, 1.9 MP/s``, with ``more`` pixels than were counted; empty without pixels."""
        pixels = self.pixels + more
        return f", {pixels / 1e6 / max(time.monotonic() - self.start, 1e-6):.2g} MP/s" if pixels else ""

    def describe(self) -> str:
        """``8 images, 5.25 MB -> 3.62 MB (69 %), 1.9 MP/s, 34 s``."""
        parts = [f"{self.images} image{'' if self.images == 1 else 's'}"]
        if self.bytes_in and self.bytes_out:
            ratio = f"{self.bytes_out / self.bytes_in:.0%}".replace("%", " %")
            parts.append(f"{format_bytes(self.bytes_in)} -> {format_bytes(self.bytes_out)} ({ratio})")
        elif self.bytes_in or self.bytes_out:
            parts.append(format_bytes(self.bytes_in or self.bytes_out))
        parts += [f"{count} {note}" for note, count in self.notes.items() if count]
        seconds = time.monotonic() - self.start
        return ", ".join(parts) + self.speed() + (f", {seconds:.1f} s" if seconds < 10 else f", {seconds:.0f} s")


class Bar:
    """The progress of a command. ``show`` is called with the fraction done and the pixels that are not counted yet."""

    def __init__(self, show: Callable[[float, int], None], total: float) -> None:
        self._show, self._total = show, total
        self._done = self._part = self._shown = 0.0

    def begin(self, size: float) -> None:
        """Start a part of the total, within which ``move`` moves."""
        self._part = size

    def move(self, share: float, pixels: int = 0) -> None:
        """Set the fraction of the current part that is done, from 0 to 1; the bar never goes back."""
        self._shown = max(self._shown, (self._done + share * self._part) / self._total)
        self._show(self._shown, pixels)

    def advance(self, size: float) -> None:
        """Complete a part, begun or not."""
        self._done, self._part = self._done + size, 0.0
        self.move(0.0)

    @contextlib.contextmanager
    def follow(self, size: float) -> Iterator[None]:
        """A context for one part: the codec moves the bar phase by phase, and the part is complete at the end."""
        self.begin(size)
        with listen_to_progress(lambda done, total: self.move(done / total, done)):
            yield
        self.advance(size)

    def follow_each(self, results: Iterator[Result], sizes: Iterable[float]) -> Iterator[Result]:
        """Yield the results; the work for each is a part of its size."""
        for size in sizes:
            with self.follow(size):
                result = next(results, None)
            if result is not None:
                yield result
        yield from results  # nothing, but they may have more to do at their end


@dataclass
class Reporter:
    """The verbosity of a command (-q, -v, --debug), what it has done, and whether something failed."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    failed: bool = False
    totals: Totals = field(default_factory=Totals)
    _bar: Bar | None = None

    @property
    def exit_code(self) -> int:
        """0, or 1 where something failed."""
        return int(self.failed)

    def fail(self, problem: Problem) -> None:
        """Report what is wrong with an input; the command goes on and exits with 1."""
        self.failed = True
        print_error(problem.reason, problem.name)
        if self.debug:
            print_line(problem.traceback)

    def warn(self, text: str, name: str) -> None:
        """A line that -q suppresses."""
        if not self.quiet:
            print_error(f"warning: {text}", name)

    def leave(self, left: Findings) -> None:
        """Report in one line what is left out in folders; the command fails if something there cannot be read."""
        self.failed = self.failed or bool(left.unreadable)
        if (left.unreadable or not self.quiet) and (line := left.summarize()):
            print_error(line)

    def detail(self, text: str) -> None:
        """A line that -v shows."""
        if self.verbose:
            print_line(text)

    def count(self, name: str, done: Outcome) -> None:
        """Add an outcome to the summary, and print it with -v."""
        self.totals.add(done)
        self.detail(f"{name}: {done.text}")

    def finish(self, note: str = "") -> int:
        """Print the summary, unless -q suppresses it or nothing was done; the exit code."""
        if self.totals.images and not self.quiet:
            print_line(self.totals.describe() + note)
        return self.exit_code

    @contextlib.contextmanager
    def progress(self, label: str, total: float) -> Iterator[Bar]:
        """A bar up to ``total`` on a terminal; elsewhere, with -v, a line now and then.

        Within another bar it moves that one's current part.
        """
        if self._bar is not None:
            yield Bar(self._bar.move, total)
            return
        with _draw_bar(self.totals, label) if self._draws else self._say_progress(label) as show:
            self._bar = Bar(show, total)
            try:
                yield self._bar
            finally:
                self._bar = None

    @property
    def _draws(self) -> bool:
        return not self.quiet and sys.stderr.isatty()

    @contextlib.contextmanager
    def _say_progress(self, label: str) -> Iterator[Callable[[float, int], None]]:
        last = time.monotonic()

        def say(share: float, pixels: int) -> None:
            nonlocal last
            if self.verbose and time.monotonic() - last > SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                print_line(f"{label}: {share:.0%}{self.totals.speed(pixels)}")

        yield say


@contextlib.contextmanager
def _draw_bar(totals: Totals, label: str) -> Iterator[Callable[[float, int], None]]:
    from rich import markup
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        label = markup.escape(escape(label))
        task = bar.add_task(label, total=1.0)

        def show(share: float, pixels: int) -> None:
            bar.update(task, completed=share, description=label + totals.speed(pixels))

        yield show


def run_jobs(jobs: Sequence[Job], work: Callable[[Job], Outcome], report: Reporter, *, to_stdout: bool = False) -> int:
    """Do the work of each job, go on after failures, and return the exit code: 0, or 1 where one failed.

    ``to_stdout``: a result goes there, as in a pipeline, which needs no summary.
    """
    label = jobs[0].name if len(jobs) == 1 else f"{len(jobs)} files"
    with report.progress(label, sum(job.size for job in jobs)) as bar:
        for job in jobs:
            start = time.monotonic()
            try:
                if job.problem:
                    raise NvaeCodecError(job.problem)
                with bar.follow(job.size):
                    done = work(job)
            except (KeyboardInterrupt, SystemExit, GeneratorExit, BrokenPipeError):
                raise  # click ends quietly where nobody reads stdout any longer
            except BaseException as error:  # a panic of constriction is no Exception
                report.fail(Problem.of(job.name, error))
                bar.advance(job.size)
            else:
                report.count(job.name, replace(done, text=f"{done.text}, {time.monotonic() - start:.2f} s"))
    return report.exit_code if to_stdout else report.finish()
