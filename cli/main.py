"""nvae-codec: the group of commands, each imported when it is called, and the handling of their errors."""

import atexit
import contextlib
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from nvae_codec import __version__

from .report import explain, print_error, print_line

# name: (module and attribute, one line of help), so that --help imports nothing
COMMANDS = {
    "compress": ("compress:compress_command", "Compress images to .nvae files."),
    "decompress": ("decompress:decompress_command", "Restore the images in .nvae files as PNGs."),
    "test": ("test:test_command", "Decode .nvae files and check them, writing nothing."),
    "info": ("info:info_command", "Say what is in .nvae files."),
    "pack": ("pack:pack_command", "Keep many images in one archive."),
    "merge": ("merge:merge_command", "Merge the shards of an archive."),
    "unpack": ("unpack:unpack_command", "Restore the images of an archive."),
    "list": ("list:list_command", "List the images of archives."),
    "models": ("models:models_command", "List the installed models and recipes."),
    "train": ("train:train_command", "Train a model from a recipe and a folder of images."),
    "freeze": ("freeze:freeze_command", "Export a trained network to the integer model that files are made with."),
    "sample": ("sample:sample_command", "Draw images from a trained network's prior."),
    "reconstruct": ("reconstruct:reconstruct_command", "Show what a trained network's latents keep of images."),
    "evaluate": ("evaluate:evaluate_command", "Compare files with the model's bounds, and break down the overhead."),
    "bench": ("bench:bench_command", "Compare size, speed and memory with other formats."),
    "import-nvlabs": ("import_nvlabs:import_nvlabs_command", "Import a checkpoint of the official NVAE code as a run."),
}

COLLECT_AFTER = 100_000
"""New objects after which Python looks for garbage in cycles, instead of its usual 700."""


class LazyGroup(click.Group):
    """A group that imports each command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands' names in the order of the table above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(f"nvae_codec.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
def nvae_codec() -> None:
    """Compress images without loss, with a trained NVAE and bits-back coding."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, 1 if something failed, 2 for wrong usage, 130 if interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = nvae_codec.main(given, prog_name="nvae-codec", standalone_mode=False)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(file=shown)
        print_line(shown.getvalue().rstrip("\n"))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print_error("interrupted")
        return 130
    except Exception as error:
        print_error(explain(error), str(getattr(error, "filename", None) or ""))
        if "--debug" in given:
            raise
        return 1
    return code if isinstance(code, int) else 0


def run() -> int:
    """The program nvae-codec: ``main``, as the only work of its process.

    Importing torch creates 150,000 permanent objects. Python would search them for garbage repeatedly, and free them
    one by one at exit, which takes a fifth of the time of a small image. So the process exits without that, with the
    code of ``main``.
    """
    gc.set_threshold(COLLECT_AFTER)
    limit_spinning()
    end_on_signals()
    codes: list[int] = []
    atexit.register(end_at_once, codes)  # the first that is registered is called last
    codes.append(flush_stdout(main()))
    return codes[0]


def limit_spinning() -> None:
    """Let torch's threads spin briefly and then sleep while they wait for one another, unless the user chose how.

    Threads that spin for long are fast on an idle machine and three times as slow where a core is busy; threads that
    sleep immediately need 1.7 times as long on an idle one (docs/speed.md). libgomp reads this when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "600")


def end_on_signals() -> None:
    """On signals that end the process, unwind as for an error, so that temporary files are removed, and exit with 128 +
    the signal's number."""

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise SystemExit(128 + number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, end)


def end_at_once(codes: Sequence[int]) -> None:
    """End the process with the first of these exit codes, if there is one, without freeing memory.

    Runs last at exit, after Python has joined all threads and called all other exit handlers.
    """
    if codes:
        code = flush_stdout(codes[0])
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, full or closed
            sys.stderr.flush()
        os._exit(code)


def flush_stdout(code: int) -> int:
    """Flush stdout. Returns ``code``, or 1 if that fails.

    A failure is reported unless the command has failed already; Python does not report it again at exit.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not code:
            print_error(explain(error), "stdout")
        return code or 1
    return code
