"""Charts as SVG, each with the numbers that it shows: bars, points and lines.

An SVG stands alone or in a page, and follows the reader's light or dark mode. Every mark carries a <title>, which a
browser shows under the pointer and a screen reader reads.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, BAR, LABEL, VALUE = 420, 24, 130, 165
"""Units of the drawing: its width, the height of a bar with its gap, the columns of labels and of values. A phone shows
them at about a pixel each, so that the text is read without zooming."""
HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 320, 62, 46, 15, 28
"""Of charts with two axes: the height, and what is around them."""

COLOURS = ("var(--a)", "var(--b)", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#65a30d", "#be185d")
"""Of lines."""

STYLE = """<style>
.chart { font: 12px system-ui, sans-serif; --ink: #1c1f23; --soft: #5d6670; --line: #d9dde1;
  --a: #2166ac; --b: #b35806; --c: #8a939c }
@media (prefers-color-scheme: dark) { .chart { --ink: #e7e9ec; --soft: #a3acb5; --line: #343a41;
  --a: #6cb0ee; --b: #f0a35a; --c: #7d8791 } }
.chart text { fill: var(--ink) } .chart .l { text-anchor: end } .chart .m { text-anchor: middle }
.chart .a { fill: var(--a) } .chart .b { fill: var(--b) } .chart .c { fill: var(--c) } .chart .dot { fill-opacity: .6 }
.chart .axis { stroke: var(--soft) } .chart .grid { stroke: var(--line) }
</style>"""


@dataclass(frozen=True)
class Chart:
    """A chart with its heading, a sentence about it, and its numbers as rows below ``head``. name: of its files."""

    name: str
    title: str
    text: str
    svg: str
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    @property
    def csv(self) -> str:
        """The numbers as comma-separated values."""
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.head, *self.rows])
        return out.getvalue()

    def save(self, folder: Path) -> None:
        """Write NAME.svg and NAME.csv."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.svg").write_text(self.svg + "\n", encoding="utf-8")
        (folder / f"{self.name}.csv").write_text(self.csv, encoding="utf-8")


@dataclass(frozen=True)
class Bar:
    """A labelled length; ``text`` is written next to it. kind: the class of its colour."""

    label: str
    value: float
    text: str
    kind: str = "a"


def draw_bars(bars: Sequence[Bar], title: str) -> str:
    """Horizontal bars from zero; negative ones go to the left of it."""
    low, high = min(0.0, *(bar.value for bar in bars)), max(0.0, *(bar.value for bar in bars))
    scale = (WIDTH - LABEL - VALUE) / ((high - low) or 1)
    zero = LABEL - low * scale
    out = [_open(BAR * len(bars) + 4, title)]
    for row, bar in enumerate(bars):
        y = row * BAR
        left, length = zero + min(0.0, bar.value) * scale, max(1.0, abs(bar.value) * scale)
        out.append(
            f"<g><title>{escape(bar.label)}: {escape(bar.text)}</title>"
            f'<text class="l" x="{LABEL - 8}" y="{y + 16}">{escape(bar.label)}</text>'
            f'<rect class="{bar.kind}" x="{left:.1f}" y="{y + 4}" width="{length:.1f}" height="{BAR - 8}" rx="2"/>'
            f'<text x="{zero + max(0.0, bar.value) * scale + 6:.1f}" y="{y + 16}">{escape(bar.text)}</text></g>'
        )
    out.append(f'<line class="axis" x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="{BAR * len(bars)}"/></svg>')
    return "".join(out)


@dataclass(frozen=True)
class Point:
    """A mark at (x, y); ``text`` is its tooltip."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A range with ticks at multiples of ``step``."""

    name: str
    low: float
    high: float
    step: float

    @classmethod
    def around(cls, name: str, values: Sequence[float]) -> Axis:
        """The axis of about five steps that has room for all values."""
        step = nice_step(max(max(values) - min(values), 1e-3) / 5)
        low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
        return cls(name, low, high if high > low else low + step, step)

    def ticks(self) -> list[tuple[float, str]]:
        """Their values and labels."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        count = round((self.high - self.low) / self.step)
        return [(v, f"{v:.{digits}f}") for v in (self.low + at * self.step for at in range(count + 1))]

    def place(self, value: float, start: float, end: float) -> float:
        """Where a value is drawn, if the axis goes from ``start`` to ``end``."""
        return start + (value - self.low) / (self.high - self.low) * (end - start)


def draw_points(points: Sequence[Point], title: str, x_name: str, y_name: str, *, diagonal: bool = False) -> str:
    """Points over two axes; with ``diagonal`` both have one range, and a line shows where they are equal."""
    xs, ys = [point.x for point in points], [point.y for point in points]
    x_axis = Axis.around(x_name, xs + ys if diagonal else xs)
    y_axis = Axis.around(y_name, xs + ys if diagonal else [0.0, *ys])
    out = [_open(HEIGHT, title), _draw_axes(x_axis, y_axis)]
    ends = (x_axis.low, x_axis.high) if diagonal else (0.0, 0.0)
    (x1, _), (x2, _) = _at(x_axis, y_axis, x_axis.low, 0), _at(x_axis, y_axis, x_axis.high, 0)
    (_, y1), (_, y2) = (_at(x_axis, y_axis, 0, end) for end in ends)
    out.append(f'<line class="axis" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    for point in points:
        x, y = _at(x_axis, y_axis, point.x, point.y)
        dot = f'<circle class="a dot" cx="{x:.1f}" cy="{y:.1f}" r="4">'
        out.append(f"{dot}<title>{escape(point.text)}</title></circle>")
    return "".join([*out, "</svg>"])


def draw_lines(
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    title: str,
    x_name: str,
    y_name: str,
    skipped: float = 0.0,
) -> str:
    """Named lines over two axes, such as learning curves. The first part of each, ``skipped``, may leave the range."""
    points = [point for _, line in lines for point in line]
    settled = [y for _, line in lines for _, y in line[int(skipped * len(line)) :]]
    x_axis, y_axis = Axis.around(x_name, [x for x, _ in points]), Axis.around(y_name, settled)
    out = [_open(HEIGHT, title), _draw_axes(x_axis, y_axis)]
    for row, (name, line) in enumerate(lines):
        colour = COLOURS[row % len(COLOURS)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (_at(x_axis, y_axis, x, min(y, y_axis.high)) for x, y in line))
        out.append(
            f'<polyline style="fill:none;stroke:{colour}" points="{path}"><title>{escape(name)}</title></polyline>'
        )
        y, square = TOP + 5 + 18 * row, f'style="fill:{colour}" width="10" height="10"'
        out.append(f'<text class="l" x="{WIDTH - RIGHT - 14}" y="{y + 9}">{escape(name)}</text>')
        out.append(f'<rect x="{WIDTH - RIGHT - 10}" y="{y}" {square}/>')
    return "".join([*out, "</svg>"])


def nice_step(about: float) -> float:
    """1, 2 or 5 times a power of ten, near a distance."""
    power: float = 10.0 ** math.floor(math.log10(about))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= about), 10 * power)


def _at(x_axis: Axis, y_axis: Axis, x: float, y: float) -> tuple[float, float]:
    return x_axis.place(x, LEFT, WIDTH - RIGHT), y_axis.place(y, HEIGHT - BOTTOM, TOP)


def _draw_axes(x_axis: Axis, y_axis: Axis) -> str:
    out = []
    for value, label in y_axis.ticks():
        y = _at(x_axis, y_axis, x_axis.low, value)[1]
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="l" x="{LEFT - 6}" y="{y + 4:.1f}">{label}</text>')
    for value, label in x_axis.ticks():
        x = _at(x_axis, y_axis, value, y_axis.low)[0]
        out.append(f'<text class="m" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}">{label}</text>')
    out.append(f'<text class="m" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}">{escape(x_axis.name)}</text>')
    turned = f'transform="translate(14 {HEIGHT / 2 - 20}) rotate(-90)"'
    return "".join([*out, f'<text class="m" {turned}>{escape(y_axis.name)}</text>'])


def _open(height: int, title: str) -> str:
    size = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    return f'<svg {size} class="chart" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>{STYLE}'
