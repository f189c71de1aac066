"""The tables that nvae-codec evaluate prints: rates per image, the overhead by cause, latent groups and phases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LONGEST_TABLE = 60
"""Images that the terminal lists; of more, only the total."""


def show_tables(result: dict[str, Any], console: Console) -> None:
    """The tables of the terminal: rates by image, the total by cause, groups and phases."""
    from rich.table import Table

    total, rows = result["total"], result["images"]
    rates = Table(title=f"bits/dim with {result['model']['name']} ({result['model']['identity'][:8]})")
    for name in (
        "image",
        "float ELBO",
        "integer-model ELBO",
        f"IW {result['samples']}",
        "file",
        "file / exact",
        "s",
        "s back",
    ):
        rates.add_column(name, justify="left" if name == "image" else "right")
    for row in rows if len(rows) <= LONGEST_TABLE else []:
        rates.add_row(row["name"], *_rate_cells(row))
    rates.add_section()
    rates.add_row(f"{total['images']} together", *_rate_cells(total))
    console.print(rates)

    causes = Table(title=f"the {total['file_bits']:,} bits of the files")
    for name in ("cause", "bits", "bits/dim", "of the files"):
        causes.add_column(name, justify="left" if name == "cause" else "right")
    for cause, bits in total["bits"].items():
        share = f"{bits / total['file_bits']:.4%}"
        causes.add_row(cause.replace("_", " "), f"{bits:,.1f}", f"{bits / total['dims']:.6f}", share)
    causes.add_section()
    causes.add_row("files", f"{total['file_bits']:,}", f"{total['bpd_file']:.6f}", "100 %")
    console.print(causes)

    parts = Table(title="the integer-model ELBO by part, and what the files have of it")
    for name in ("part", "exact bits/dim", "file bits/dim", "channels", "coded", "active"):
        parts.add_column(name, justify="left" if name == "part" else "right")
    for index, group in enumerate(total["groups"]):
        counts = [str(group["channels"]), str(group["coded"]), f"{group['active']:.1f}"]
        parts.add_row(f"latents {index}, 1/{group['stride']}", *_part_cells(group, total["dims"]), *counts)
    for index, phase in enumerate(total["phases"]):
        parts.add_row(f"pixels, phase {index}", *_part_cells(phase, total["dims"]))
    console.print(parts)


def _rate_cells(row: dict[str, Any]) -> list[str]:
    real = "" if row["bpd_float_elbo"] is None else f"{row['bpd_float_elbo']:.5f}"
    rates = [f"{row[key]:.5f}" for key in ("bpd_integer_elbo", "bpd_importance", "bpd_file", "file_over_integer")]
    return [real, *rates, f"{row['encode_seconds']:.2f}", f"{row['decode_seconds']:.2f}"]


def _part_cells(part: dict[str, float], dims: int) -> list[str]:
    return [f"{part['integer_elbo'] / dims:.5f}", f"{part['file'] / dims:.5f}"]
