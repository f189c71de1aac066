"""The learning curves of training runs as one SVG file, from their log.jsonl.

    python -m tools.curves RUN [RUN ...] -o curves.svg

Draws bits/dim of held-out images over minutes of training: a line per run, and per kind of history where the run has
several.
"""

import argparse
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from nvae_codec.evaluation.report.charts import nice_step

Series = dict[str, list[tuple[float, float]]]
"""By name: (minutes, bits/dim)."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 56, 150, 12, 44
COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#65a30d", "#be185d")
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#333}.grid{stroke:#ddd}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}}"
)
SKIPPED = 0.1
"""Share of a run's reports, the first ones, that do not set the range: they would flatten everything after them."""


def read_series(runs: Sequence[Path]) -> Series:
    """The curves of the folders' logs."""
    series: Series = {}
    for run in runs:
        for text in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            valid = line["valid"]
            for kind, bits in {"": valid["bits_per_dim"], **valid.get("histories", {})}.items():
                series.setdefault(" ".join(filter(None, (run.name, kind))), []).append((line["seconds"] / 60, bits))
    return series


def draw_curves(series: Series) -> str:
    """One chart; lines are labelled at their ends, where labels are kept apart."""
    points = [point for line in series.values() for point in line]
    settled = [y for line in series.values() for _, y in line[int(SKIPPED * len(line)) :]]
    last = max(x for x, _ in points) or 1.0
    step = nice_step(max(max(settled) - min(settled), 1e-3) / 5)
    low, high = math.floor(min(settled) / step) * step, math.ceil(max(settled) / step) * step + step / 2
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"><style>{STYLE}</style>']

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / last * (WIDTH - LEFT - RIGHT)
        return across, TOP + (high - min(y, high)) / (high - low) * (HEIGHT - TOP - BOTTOM)

    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    for tick in range(int((high - low) / step) + 1):
        _, y = at(0, low + tick * step)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{low + tick * step:.{digits}f}</text>')
    minutes = nice_step(last / 6)
    for tick in range(int(last / minutes) + 1):
        out.append(f'<text x="{at(tick * minutes, low)[0]:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">')
        out.append(f"{tick * minutes:g}</text>")
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">minutes</text>')
    label = math.inf
    lines = sorted(series.items(), key=lambda named: -at(*named[1][-1])[1])
    for index, (name, line) in enumerate(lines):
        colour, (x, y) = COLOURS[index % len(COLOURS)], at(*line[-1])
        label = min(y + 4, label - 14)
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(*point) for point in line))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{x + 6:.1f}" y="{label:.1f}">{escape(name)} {line[-1][1]:.3f}</text>')
    return "".join([*out, "</svg>\n"])


def main() -> None:
    """Draw the curves of the command line's runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="SVG")
    given = parser.parse_args()
    given.out.write_text(draw_curves(read_series(given.runs)), encoding="utf-8")


if __name__ == "__main__":
    main()
