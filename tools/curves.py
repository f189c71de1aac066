"""The learning curves of training runs as one SVG file, from their log.jsonl.

    python -m tools.curves RUN [RUN ...] -o curves.svg

Draws bits/dim of held-out images over minutes of training: a line per run, and per kind of history where the run has
several.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from nvae_codec.evaluation.report.charts import draw_lines

Series = dict[str, list[tuple[float, float]]]
"""By name: (minutes, bits/dim)."""

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
    """One chart of all curves, the highest at the end first; names say where each ends."""
    ordered = sorted(series.items(), key=lambda named: -named[1][-1][1])
    lines = [(f"{name} {line[-1][1]:.3f}", line) for name, line in ordered]
    return draw_lines(lines, "learning curves", "minutes", "bits/dim", SKIPPED) + "\n"


def main() -> None:
    """Draw the curves of the command line's runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="SVG")
    given = parser.parse_args()
    given.out.write_text(draw_curves(read_series(given.runs)), encoding="utf-8")


if __name__ == "__main__":
    main()
