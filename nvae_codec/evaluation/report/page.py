"""The report of an evaluation: template.html with the JSON of the evaluation, its charts and the images in it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvae_codec.evaluation.report.charts import Bar, Chart, Point, draw_bars, draw_points
from nvae_codec.evaluation.report.thumbnails import draw_heat, draw_image

DATA = "{{data}}"
"""Where the template takes its data."""

Fields = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """An image and its heat map as data URIs; top: bits/dim of the map's brightest colour."""

    image: str
    heat: str
    top: float
    tiny: bool

    @classmethod
    def of(cls, pixels: NDArray[np.uint8], heat: NDArray[np.float32], size: int) -> Shown:
        """What is kept of an image, uint8 (H, W, 3) or (H, W), and its bits per pixel (H, W)."""
        top = float(np.quantile(heat, 0.99))
        channels = pixels.size // heat.size
        return cls(draw_image(pixels, size), draw_heat(heat, size, top), top / channels, max(heat.shape) <= 64)


def write_report(result: Fields, shown: Sequence[Shown], size: int) -> str:
    """The page of an evaluation; ``shown`` in the order of its images, at most ``size`` pixels wide and high."""
    charts = [
        {"name": c.name, "title": c.title, "text": c.text, "svg": c.svg, "csv": c.csv} for c in list_charts(result)
    ]
    data = {"result": result, "shown": [asdict(each) for each in shown], "size": size, "charts": charts}
    # no end tag may end the script that holds the data
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    template = files("nvae_codec.evaluation.report").joinpath("template.html").read_text(encoding="utf-8")
    return template.replace(DATA, text)


def list_charts(result: Fields) -> Iterator[Chart]:
    """The charts of an evaluation, as pages and papers show them."""
    rows, total = result["images"], result["total"]
    yield _achieved(rows)
    yield _relative(rows)
    yield _overhead(total)
    groups = [
        (f"{at}: 1/{group['stride']}, {group['coded']} of {group['channels']}", group["integer_elbo"])
        for at, group in enumerate(total["groups"])
    ]
    text = "KL of each group in the integer-model ELBO, from the top: its scale, channels coded of all."
    yield _parts("groups", "KL per latent group", text, groups, total["dims"])
    phases = [(f"phase {at}", phase["integer_elbo"]) for at, phase in enumerate(total["phases"])]
    text = "Pixels in the integer-model ELBO, given the latents and the phases before."
    yield _parts("phases", "Bits per phase of pixels", text, phases, total["dims"])
    if total["baselines"]:
        yield _baselines(total)


def _achieved(rows: Sequence[Fields]) -> Chart:
    numbers = tuple((row["name"], row["bpd_integer_elbo"], row["bpd_file"]) for row in rows)
    points = [Point(x, y, f"{name}: {x:.4f} → {y:.4f}") for name, x, y in numbers]
    title, names = "File size and bound", ("integer-model ELBO, bits/dim", "file, bits/dim")
    text = "Each point is an image. On the line a file takes what the integer-model ELBO says."
    svg = draw_points(points, title, *names, diagonal=True)
    return Chart("achieved", title, text, svg, ("image", *names), numbers)


def _relative(rows: Sequence[Fields]) -> Chart:
    numbers = tuple((row["name"], row["bpd_integer_elbo"], 100 * (row["file_over_integer"] - 1)) for row in rows)
    points = [Point(x, y, f"{name}: {y:+.3f} %") for name, x, y in numbers]
    title, names = "Overhead per image", ("integer-model ELBO, bits/dim", "file / ELBO - 1, per cent")
    text = "The distance from the line in the chart of file size and bound."
    return Chart("relative", title, text, draw_points(points, title, *names), ("image", *names), numbers)


def _overhead(total: Fields) -> Chart:
    numbers = tuple((cause.replace("_", " "), bits) for cause, bits in total["bits"].items() if cause != "integer_elbo")
    bars = [
        Bar(cause, bits, f"{bits:,.1f} bits, {bits / total['file_bits']:.4%}", "a" if bits >= 0 else "b")
        for cause, bits in numbers
    ]
    title, text = (
        "Overhead by cause",
        "What the files take beyond the integer-model ELBO. The causes add up to it exactly.",
    )
    return Chart("overhead", title, text, draw_bars(bars, title), ("cause", "bits"), numbers)


def _parts(name: str, title: str, text: str, parts: Sequence[tuple[str, float]], dims: int) -> Chart:
    numbers = tuple((label, bits / dims) for label, bits in parts)
    bars = [Bar(label, rate, f"{rate:.5f} bits/dim") for label, rate in numbers]
    return Chart(name, title, text, draw_bars(bars, title), ("part", "bits/dim"), numbers)


def _baselines(total: Fields) -> Chart:
    ours = total["file_bits"]
    numbers = [("nvae-codec", ours / total["dims"], 0.0)]
    numbers += [(name, bits / total["dims"], 100 * (ours / bits - 1)) for name, bits in total["baselines"].items()]
    bars = [Bar(*numbers[0][:2], f"{numbers[0][1]:.4f} bits/dim")]
    bars += [Bar(name, rate, f"{rate:.4f} bits/dim, {distance:+.1f} %", "c") for name, rate, distance in numbers[1:]]
    title, head = "Other formats", ("codec", "bits/dim", "nvae-codec against it, per cent")
    text = "Files of the same pixels, and how much larger (+) or smaller (-) those of nvae-codec are."
    return Chart("baselines", title, text, draw_bars(bars, title), head, tuple(numbers))
