"""The options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from nvae_codec.runtime import DEVICES

Command = Callable[..., Any]

ANY_PATH = click.Path(allow_dash=True)
"""A file, a folder or -; the jobs that come of it say what is wrong with it. Shells complete it as a path."""


def refuse_stdout(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """The callback of options that take a path where - would be a file of that name."""
    if path == Path("-"):
        raise click.BadParameter("it cannot go to stdout")
    return path


def where_it_goes(what: str) -> Callable[[Command], Command]:
    """-o FILE, of a command that makes one file, ``what``, and nothing without it."""
    path = click.Path(path_type=Path)
    return click.option(
        "-o", "output", required=True, metavar="FILE", type=path, callback=refuse_stdout, help=f"The {what}."
    )


class ModelName(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A model by name, path or hf://ORG/NAME. Shells complete it to the names that are here, or as a path."""

    name = "name|path"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The models whose names begin so, and any path."""
        from nvae_codec.zoo.library import installed_models, more_models

        names = [info.name for info in (*installed_models(), *more_models()) if info.name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *(CompletionItem(name) for name in names)]


def how_to_evaluate(command: Command) -> Command:
    """--device, --threads, --batch-tiles: they change speed and memory, never a file."""
    more_tiles = "Tiles that the network sees together; fewer take less memory."
    where = "Where the network runs; no file depends on it."
    devices = click.Choice(DEVICES)
    command = click.option("--batch-tiles", type=click.IntRange(1), metavar="N", help=more_tiles)(command)
    command = click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: torch's]")(
        command
    )
    return click.option("--device", type=devices, default="auto", show_default=True, help=where)(command)


class FiniteRange(click.FloatRange):
    """A number within bounds, and neither nan, which is beyond no bound, nor infinite."""

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


def how_large_segments(command: Command) -> Command:
    """--segment."""
    more = "Images that decode together: more take fewer bits, one is read sooner of fewer.  [default: 256 or 4 MP]"
    return click.option("--segment", type=SegmentSize(), metavar="N|all", help=more)(command)


class ShardNumber(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Which part of how many: I/N."""

    name = "shard"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """``2/8`` to (2, 8); fails for anything else."""
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) < 1 << 31):
            self.fail(f"{value} is not I/N with I from 1 to N", param, ctx)
        return int(number), int(count)


def how_many_workers(command: Command) -> Command:
    """--workers."""
    more = "Processes that work at once, on one CPU thread each unless --threads says else."
    return click.option("--workers", type=click.IntRange(1), default=1, show_default=True, metavar="N", help=more)(
        command
    )


def how_much_metadata(command: Command) -> Command:
    """--metadata."""
    more = "Kept beside the pixels. meaning: what their colours, size and way up follow from."
    kinds = click.Choice(["all", "meaning", "none"])
    return click.option("--metadata", type=kinds, default="all", show_default=True, help=more)(command)


def how_on_many_machines(command: Command) -> Command:
    """--workers, --ray, --shard."""
    more = "Work as tasks of the Ray cluster there; local: of one with --workers on this machine."
    command = click.option("--ray", metavar="ADDRESS|local", help=more)(command)
    part = "Only the I-th of N parts, as a file of its own: see nvae-codec merge."
    command = click.option("--shard", type=ShardNumber(), metavar="I/N", help=part)(command)
    return how_many_workers(command)


def how_many_pixels(command: Command) -> Command:
    """--max-pixels."""

    def limit(context: click.Context, _option: click.Parameter, most: int | None) -> None:
        if most is not None:
            from nvae_codec.images.limits import limit_pixels

            before = limit_pixels(most or None)
            context.call_on_close(lambda: limit_pixels(before))

    more = "Refuse larger images, which take memory; 0: refuse none.  [default: Pillow's limit, 89,478,485]"
    return click.option(
        "--max-pixels", type=click.IntRange(0), metavar="N", help=more, callback=limit, expose_value=False
    )(command)


def how_to_write(command: Command) -> Command:
    """--rm, --force."""
    command = click.option("-f", "--force", is_flag=True, help="Overwrite; send binary data to a terminal.")(command)
    return click.option("--rm", "remove", is_flag=True, help="Remove each source once its result is verified.")(command)


def how_to_report(command: Command) -> Command:
    """--quiet, --verbose."""
    command = click.option("-v", "--verbose", is_flag=True, help="A line a file; details of errors.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="No progress bar; errors alone.")(command)
