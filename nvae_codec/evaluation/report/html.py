"""The report: one HTML file with every number of an evaluation's JSON that a reader wants to see, and the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.evaluation.report.charts import Bar, Point, draw_bars, draw_scatter
from nvae_codec.evaluation.report.page import SCRIPT, STYLE
from nvae_codec.evaluation.report.thumbnails import draw_heat, draw_image

CAUSE_NAMES = {
    "tile_edges": "tile edges",
    "start_up": "start-up",
    "latent_rounding": "latent rounding",
    "frequency_rounding": "frequency rounding",
    "stack": "stack",
    "padding": "padding",
    "header": "header",
    "metadata": "metadata",
    "checksums": "checksums",
}


@dataclass(frozen=True)
class Shown:
    """A image and its heat map as data URIs; top: bits/dim of the map's brightest colour."""

    image: str
    heat: str
    top: float
    tiny: bool

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], heat: NDArray[np.float32], side: int) -> Shown:
        """What is kept of an image, uint8 (H, W, 3), and its bits a pixel (H, W), once it is measured."""
        top = float(np.quantile(heat, 0.99))
        return cls(draw_image(pixels, side), draw_heat(heat, side, top), top / 3, max(heat.shape) <= 64)


def write_report(result: dict[str, Any], shown: Sequence[Shown], side: int) -> str:
    """The page of an evaluation; ``shown`` stands in the order of its images."""
    total, rows = result["total"], result["images"]
    model = f"{result['model']['name']} ({result['model']['identity'][:8]})"
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>nvae-codec: {len(rows)} {_plural(len(rows))}</title><style>{STYLE}</style></head><body>",
        f"<h1>Files against the model's bounds</h1><p>{len(rows)} {_plural(len(rows))} with {escape(model)}, "
        f"{result['samples']} draws from seed {result['seed']}. All rates are in bits/dim: bits by W·H·C.</p>",
        _summary(total),
        '<div class="charts">',
        _section(
            "Achieved against theoretical", "Each point is an image; on the line a file is its integer-model ELBO.",
            draw_scatter(
                [Point(row["name"], row["bpd_integer_elbo"], row["bpd_file"]) for row in rows],
                "Achieved against theoretical", "integer-model ELBO, bits/dim", "file, bits/dim",
            ),
        ),
        _bars("Causes of overhead", "What the files have beyond the integer ELBO. The parts add up to it exactly.",
              _cause_bars(total)),
        _bars("Bits a latent group", "The integer ELBO's KL of each group, from the top of the hierarchy: its scale, "
              "channels coded of all.", _group_bars(total)),
        _bars("Bits a phase of pixels", "Given the latents and the phases before.", _phase_bars(total)),
        _bars("Beside other formats", "Whole files of the same pixels.", _baseline_bars(total))
        if total["baselines"] else "",
        "</div>",
        _section("Where the bits go", "Beside each image, bits a pixel: bright where there are many. Each map has "
                 "a range of its own, up to what is said below it."),
        f'<div class="images" style="--cell: {max(9, min(28, side // 9))}rem">',
        *(_figure(row, one) for row, one in zip(rows, shown, strict=True)),
        "</div>",
        _section("All images", "A click on a heading sorts."),
        _table(rows),
        _section("Made on", ", ".join(f"{escape(str(k))} {escape(str(v))}" for k, v in result["machine"].items())),
        f"<script>{SCRIPT}</script></body></html>\n",
    ]  # fmt: skip
    return "\n".join(parts)


def _plural(count: int) -> str:
    return "image" if count == 1 else "images"


def _section(title: str, text: str, body: str = "") -> str:
    return f"<section><h2>{title}</h2><p>{text}</p>{body}</section>"


def _bars(title: str, text: str, bars: Sequence[Bar]) -> str:
    return _section(title, text, draw_bars(bars, title))


def _summary(total: dict[str, Any]) -> str:
    numbers = [
        ("bpd_file", f"{total['bpd_file']:.4f}", "files, bits/dim"),
        ("bpd_integer_elbo", f"{total['bpd_integer_elbo']:.4f}", "integer-model ELBO"),
        ("bpd_importance", f"{total['bpd_importance']:.4f}", "importance-weighted bound"),
        ("file_over_integer", f"{total['file_over_integer']:.5f}", "files / integer-model ELBO"),
        ("encode_seconds", f"{total['encode_seconds']:.2f} s", "to encode"),
        ("decode_seconds", f"{total['decode_seconds']:.2f} s", "to decode"),
    ]
    if total["bpd_float_elbo"] is not None:
        numbers.insert(1, ("bpd_float_elbo", f"{total['bpd_float_elbo']:.4f}", "float ELBO"))
    return (
        '<div class="sums">'
        + "".join(f'<div><b data-key="{key}">{value}</b>{text}</div>' for key, value, text in numbers)
        + "</div>"
    )


def _cause_bars(total: dict[str, Any]) -> list[Bar]:
    bits, file = total["bits"], total["file_bits"]
    return [
        Bar(name, bits[cause], f"{bits[cause]:,.1f} bits, {bits[cause] / file:.4%}", "a" if bits[cause] >= 0 else "b")
        for cause, name in CAUSE_NAMES.items()
    ]


def _group_bars(total: dict[str, Any]) -> list[Bar]:
    return [
        Bar(
            f"{index}: 1/{group['stride']}, {group['coded']} of {group['channels']}",
            group["integer_elbo"],
            f"{group['integer_elbo'] / total['dims']:.5f} bits/dim",
        )
        for index, group in enumerate(total["groups"])
    ]


def _phase_bars(total: dict[str, Any]) -> list[Bar]:
    return [
        Bar(f"phase {index}", phase["integer_elbo"], f"{phase['integer_elbo'] / total['dims']:.5f} bits/dim")
        for index, phase in enumerate(total["phases"])
    ]


def _baseline_bars(total: dict[str, Any]) -> list[Bar]:
    sizes = {"nvae-codec": total["file_bits"], **total["baselines"]}
    return [
        Bar(name, bits, f"{bits / total['dims']:.4f} bits/dim", "a" if name == "nvae-codec" else "c")
        for name, bits in sizes.items()
    ]


def _figure(row: dict[str, Any], shown: Shown) -> str:
    tiny = ' class="tiny"' if shown.tiny else ""
    name = escape(row["name"])
    return (
        f'<figure><div><img{tiny} src="{shown.image}" alt="{name}">'
        f'<img{tiny} src="{shown.heat}" alt="bits of {name}"></div>'
        f"<figcaption>{name}: {row['bpd_file']:.4f} bits/dim; map to {shown.top:.1f}</figcaption></figure>"
    )


def _table(rows: Sequence[dict[str, Any]]) -> str:
    heads = ("image", "size", "float ELBO", "integer-model ELBO", "IW", "file", "file / exact", "s", "s back")
    head = "".join(f"<th>{name}</th>" for name in heads)
    lines = []
    for row in rows:
        real = "" if row["bpd_float_elbo"] is None else f"{row['bpd_float_elbo']:.5f}"
        rates = [f"{row[key]:.5f}" for key in ("bpd_integer_elbo", "bpd_importance", "bpd_file", "file_over_integer")]
        seconds = [f"{row[key]:.2f}" for key in ("encode_seconds", "decode_seconds")]
        cells = [escape(row["name"]), f"{row['width']} × {row['height']}", real, *rates, *seconds]
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return (
        f'<div class="scroll"><table class="sorts"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody>'
        "</table></div>"
    )
