"""The options that several commands share: decorators, most of which pass their values as one argument."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from nvae_codec.adaptation import DEFAULT_EFFORT, EFFORTS
from nvae_codec.runtime import DEVICES, Runtime

from .report import Reporter

if TYPE_CHECKING:
    from nvae_codec.parallel.processes import Workers

Command = Callable[..., Any]

ANY_PATH = click.Path(allow_dash=True)
"""A file, a folder or -, which is checked when it is read. Shells complete it as a path."""
EXISTING = click.Path(exists=True, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT_FILE = click.Path(dir_okay=False, path_type=Path)


def together(argument: str, make: Callable[..., object], *options: Command) -> Callable[[Command], Command]:
    """Combine options into one argument of a command: ``make(**values)``."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def call(*args: Any, **values: Any) -> Any:
            own = {name: values.pop(name) for name in names}
            return command(*args, **values, **{argument: make(**own)})

        before = len(getattr(call, "__click_params__", ()))
        for option in reversed(options):
            call = option(call)
        names = list(dict.fromkeys(parameter.name for parameter in call.__click_params__[before:]))  # type: ignore[attr-defined]
        return call

    return decorate


class ModelName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A model by name, path or hf://ORG/NAME. Shells complete it to the installed names, or as a path."""

    name = "name|path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The models whose names begin so, and any path."""
        from nvae_codec.zoo.library import installed_models, more_models

        names = [info.name for info in (*installed_models(), *more_models()) if info.name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *(CompletionItem(name) for name in names)]


class FiniteRange(click.FloatRange):
    """A finite number within bounds; nan would pass the bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number; fails for anything else."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class SegmentSize(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A number of images, or all of them: 0."""

    name = "segment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """``all`` to 0 and digits to their number; fails for anything else."""
        if value == "all":
            return 0
        if not str(value).isdecimal() or not 0 < int(str(value)) < 1 << 31:
            self.fail(f"{value} is neither a number of images nor all", param, ctx)
        return int(str(value))


class ShardNumber(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Which part of how many: I/N."""

    name = "shard"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """``2/8`` to (2, 8); fails for anything else."""
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) < 1 << 31):
            self.fail(f"{value} is not I/N with I from 1 to N", param, ctx)
        return int(number), int(count)


def refuse_stdout(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """The callback of options whose path must not be -, which would be a file of that name."""
    if path == Path("-"):
        raise click.BadParameter("it cannot go to stdout")
    return path


def _limit_pixels(context: click.Context, _option: click.Parameter, most: int | None) -> None:
    if most is not None:
        from nvae_codec.images.limits import limit_pixels

        before = limit_pixels(most or None)
        context.call_on_close(lambda: limit_pixels(before))


def integer_option(name: str, *, text: str, least: int = 1, default: int | None = None) -> Callable[[Command], Command]:
    """An option that takes an integer from ``least`` on; ``text`` is its help."""
    shown = default is not None
    return click.option(name, type=click.IntRange(least), default=default, show_default=shown, metavar="N", help=text)


def choice_option(name: str, choices: Sequence[str], *, text: str) -> Callable[[Command], Command]:
    """An option that takes one of several words, the first unless another is given; ``text`` is its help."""
    return click.option(name, type=click.Choice(choices), default=choices[0], show_default=True, help=text)


def output_option(what: str) -> Callable[[Command], Command]:
    """-o FILE, required, of a command that makes one file: the ``what``."""
    path = click.Path(path_type=Path)
    return click.option(
        "-o", "output", required=True, metavar="FILE", type=path, callback=refuse_stdout, help=f"The {what}."
    )


def destination_option(source: str) -> Callable[[Command], Command]:
    """-o OUT, of a command that by default puts each result next to its ``source``."""
    text = f"File or folder to write to, - for stdout.  [default: next to {source}]"
    return click.option("-o", "output", type=ANY_PATH, metavar="OUT", help=text)


force_option = click.option("-f", "--force", is_flag=True, help="Overwrite; send binary data to a terminal.")
remove_option = click.option("--rm", "remove", is_flag=True, help="Remove each source once its result is verified.")
foreign_model_option = click.option("--model", type=ModelName(), help="A model to decode with that is not installed.")
method_option = choice_option(
    "--method",
    ("auto", "model", "webp", "stored"),
    text="auto: the smallest. model: RGB and gray. webp: at most 8 bits per sample. stored: the file's own bytes.",
)
effort_option = click.option(
    "--effort",
    type=click.IntRange(EFFORTS[0], EFFORTS[-1]),
    default=DEFAULT_EFFORT,
    show_default=True,
    metavar="1-9",
    help="How long to adapt the model to the images; 1: not at all. Decoding is as fast with any.",
)
metadata_option = choice_option(
    "--metadata",
    ("all", "meaning", "none"),
    text="Kept with the pixels. meaning: colour profile, resolution and orientation only.",
)
pixel_limit_option = click.option(
    "--max-pixels",
    type=click.IntRange(0),
    metavar="N",
    help="Refuse larger images, which take memory; 0: refuse none.  [default: Pillow's limit, 89,478,485]",
    callback=_limit_pixels,
    expose_value=False,
)
segment_option = click.option(
    "--segment",
    type=SegmentSize(),
    metavar="N|all",
    help="Images coded together: more take fewer bits, fewer are read sooner.  [default: 256 or 4 MP]",
)
workers_option = integer_option(
    "--workers", default=1, text="Processes that work at once, on one CPU thread each unless --threads says otherwise."
)
threads_option = integer_option("--threads", text="CPU threads.  [default: torch's]")
_network_options = (
    choice_option("--device", DEVICES, text="Where the network runs; no file depends on it."),
    threads_option,
)
network_options = together("runtime", Runtime, *_network_options)
runtime_options = together(
    "runtime",
    Runtime,
    *_network_options,
    integer_option("--batch-tiles", text="Tiles that the network evaluates together; fewer take less memory."),
)
_reporting_options = (
    click.option("-q", "--quiet", is_flag=True, help="Only errors: no progress bar, no summary."),
    click.option("-v", "--verbose", is_flag=True, help="A line per file: method, model, bits/dim, seconds."),
    click.option("--debug", is_flag=True, help="Tracebacks of errors."),
)
reporting_options = together("report", Reporter, *_reporting_options)
reporter_options = together("reporter", Reporter, *_reporting_options)
"""The same for a command whose ``report`` is something else."""


@dataclass(frozen=True)
class Machines:
    """Where work is done: processes of this machine, a Ray cluster, or the I-th of N machines."""

    workers: int
    ray: str | None
    shard: tuple[int, int] | None

    def choose(self, runtime: Runtime) -> tuple[Workers, Runtime]:
        """Who does the work, and how each evaluates the network; raises click.UsageError where that cannot be."""
        from nvae_codec.parallel.processes import Processes
        from nvae_codec.parallel.ray import Ray

        if self.ray is None:
            return Processes(self.workers), share_threads(runtime, self.workers)
        if self.ray != "local" and self.workers > 1:
            raise click.UsageError("--workers is for this machine; the Ray cluster decides how many work")
        # Ray gives GPUs to those that ask for them
        device, threads = "cpu" if runtime.device == "auto" else runtime.device, runtime.threads or 1
        return (
            Ray(self.ray, self.workers, cpus=threads, gpus=int(device == "cuda")),
            replace(runtime, device=device, threads=threads),
        )


machines_options = together(
    "machines",
    Machines,
    workers_option,
    click.option(
        "--ray",
        metavar="ADDRESS|local",
        help="Work as tasks on the Ray cluster there; local: on one of --workers on this machine.",
    ),
    click.option(
        "--shard",
        type=ShardNumber(),
        metavar="I/N",
        help="Only the I-th of N parts, as a file of its own: see nvae-codec merge.",
    ),
)


def share_threads(runtime: Runtime, workers: int) -> Runtime:
    """One thread for each of several workers, unless it says how many."""
    return runtime if runtime.threads or workers == 1 else replace(runtime, threads=1)
