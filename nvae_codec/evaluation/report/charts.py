"""Charts as inline SVG: a scatter and horizontal bars. Colours come from the page's CSS; sizes follow the column.

Every mark carries a <title>, which a browser shows under the pointer and a screen reader reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, BAR, LABEL, VALUE = 420, 24, 130, 165
"""Units of the drawing: its width, the height of a bar with its gap, the columns of labels and of values. A phone shows
them at about a pixel each, so that the text is read without zooming."""


@dataclass(frozen=True)
class Bar:
    """A labelled length; ``text`` is written beside it. kind: the CSS class of its colour."""

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
    """A image: theoretical and achieved bits/dim."""

    name: str
    x: float
    y: float


def draw_scatter(points: Sequence[Point], title: str, x_name: str, y_name: str) -> str:
    """Points with the line where both are equal; both axes have one range."""
    height, left, bottom = 320, 50, 46
    values = [value for point in points for value in (point.x, point.y)]
    step = nice_step(max(max(values) - min(values), 1e-3) / 5)
    low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    high = high if high > low else low + step

    def at_x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - 20)

    def at_y(value: float) -> float:
        return height - bottom - (value - low) / (high - low) * (height - bottom - 15)

    out = [_open(height, title)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    for tick in range(round((high - low) / step) + 1):
        value = low + tick * step
        x, y = at_x(value), at_y(value)
        out.append(f'<line class="grid" x1="{left}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="l" x="{left - 6}" y="{y + 4:.1f}">{value:.{digits}f}</text>')
        out.append(f'<text class="m" x="{x:.1f}" y="{height - bottom + 18}">{value:.{digits}f}</text>')
    out.append(f'<line class="axis" x1="{at_x(low)}" y1="{at_y(low)}" x2="{at_x(high)}" y2="{at_y(high)}"/>')
    for point in points:
        told = f"{escape(point.name)}: {point.x:.4f} → {point.y:.4f}"
        dot = f'<circle class="a dot" cx="{at_x(point.x):.1f}" cy="{at_y(point.y):.1f}" r="4">'
        out.append(f"{dot}<title>{told}</title></circle>")
    out.append(f'<text class="m" x="{(left + WIDTH) / 2}" y="{height - 8}">{escape(x_name)}</text>')
    out.append(f'<text class="m" transform="translate(14 {height / 2 - 20}) rotate(-90)">{escape(y_name)}</text></svg>')
    return "".join(out)


def nice_step(about: float) -> float:
    """1, 2 or 5 times a power of ten, near a distance."""
    power: float = 10.0 ** math.floor(math.log10(about))
    return next((power * factor for factor in (1, 2, 5) if power * factor >= about), 10 * power)


def _open(height: int, title: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
