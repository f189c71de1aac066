"""nvae-codec bench: this codec and others on the same images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvae_codec.files import write_atomic
from nvae_codec.runtime import Runtime

from .files import check_outputs, find_all_inputs
from .options import EXISTING, OUTPUT_FILE, ModelName, effort_option, reporting_options, runtime_options
from .report import Problem, Reporter, print_line

if TYPE_CHECKING:
    from rich.console import Console


@click.command("bench")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=EXISTING)
@click.option("--model", type=ModelName(), default="photo", show_default=True, help="Model to compress with.")
@click.option(
    "--codec", "only", multiple=True, metavar="NAME", help="Only this one, as the table calls it; repeatable."
)
@effort_option
@click.option("--json", "json_file", type=OUTPUT_FILE, metavar="OUT", help="Write all numbers there.")
@runtime_options
@reporting_options
def bench_command(
    inputs: tuple[Path, ...],
    model: str,
    only: tuple[str, ...],
    effort: int,
    json_file: Path | None,
    runtime: Runtime,
    report: Reporter,
) -> int:
    """Compare with PNG, WebP, JPEG 2000 and JPEG XL: bits/dim, megapixels per second, peak memory.

    INPUT is an image file, a folder of them, or an .npz file with images. JPEG XL needs nvae-codec[bench].
    """
    import json

    from rich.console import Console

    from nvae_codec.evaluation.bench import bench, codec_names

    names = codec_names()
    unknown = [name for name in only if name not in names]
    if unknown:
        raise click.UsageError(f"there is no codec {unknown[0]}; there are {', '.join(names)}")

    own = find_all_inputs(inputs)
    check_outputs((json_file,), own)

    def announce(name: str) -> None:
        if report.verbose or (not report.quiet and sys.stderr.isatty()):
            print_line(f"{name} ...")

    result = bench(inputs, {"model": model, "effort": effort, **vars(runtime)}, only or names, announce)
    if json_file is not None:
        write_atomic(json_file, (json.dumps(result, indent=1) + "\n").encode(), force=True, inputs=own)
    if not report.quiet:
        show_table(result, Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120))
    for row in result["codecs"]:
        if row["library"] is None and row["name"] in only:
            report.fail(Problem(row["name"], "not installed", ""))
    return report.exit_code


def show_table(result: dict[str, Any], console: Console) -> None:
    """A line per codec, the smallest files in bold."""
    from rich.table import Table

    machine = result["machine"]
    table = Table(title=f"{result['images']} images, {result['megapixels']:.2f} megapixels; {machine['processor']}")
    for name in ("codec", "bits/dim", "MP/s", "MP/s back", "peak MB", "made by"):
        table.add_column(name, justify="left" if name in ("codec", "made by") else "right")
    least = min((row["bits"] for row in result["codecs"] if row["library"] is not None), default=0)
    for row in result["codecs"]:
        if row["library"] is None:
            table.add_row(row["name"], "", "", "", "", "not installed")
            continue
        speeds = [f"{row[key]:.3g}" for key in ("encode_mp_per_second", "decode_mp_per_second")]
        style = "bold" if row["bits"] == least else None
        peak = f"{row['peak_bytes'] / 1e6:.0f}"
        table.add_row(row["name"], f"{row['bpd']:.4f}", *speeds, peak, row["library"], style=style)
    console.print(table)
