"""The report: sound, self-contained, and with the numbers of the JSON."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation.baselines import baseline_bits
from nvae_codec.evaluation.images import Evaluator
from nvae_codec.evaluation.report.charts import Bar, Point, draw_bars, draw_scatter, nice_step
from nvae_codec.evaluation.report.html import CAUSE_NAMES, Shown, write_report
from nvae_codec.evaluation.report.thumbnails import draw_heat, draw_image, thumbnail_side
from nvae_codec.images.raster import RasterImage
from tests.models import frozen_model, make_image

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps what a reader would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.keys: dict[str, str] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        key = self.tags[-1][1].get("data-key") if self.tags else None
        if key and self.open[-1] == "b":
            self.keys[key] = data
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def evaluate(count: int, times: int = 1) -> tuple[dict[str, Any], str]:
    """The evaluation of ``count`` images, each so many times, and its page."""
    evaluator, side = Evaluator(ModelCodec(frozen_model()), samples=1), thumbnail_side(count * times)
    rows, shown = [], []
    for index in range(count):
        pixels = make_image(24, 32, index)
        row, heat = evaluator.measure(f"<{index}> & co", RasterImage.from_pixels(pixels))
        row["baselines"] = baseline_bits(pixels)
        rows.append(row)
        shown.append(Shown.of(pixels, heat, side))
    result = evaluator.describe(rows * times, None)
    return result, write_report(result, shown * times, side)


@pytest.mark.parametrize("count", [1, 5])
def test_the_numbers_shown_are_those_of_the_json(count: int) -> None:
    result, text = evaluate(count)
    page, total = Page(text), result["total"]
    shown = " ".join(page.text)
    for key, told in page.keys.items():
        digits = len(told.removesuffix(" s").split(".")[1])
        assert told.removesuffix(" s") == f"{total[key]:.{digits}f}"
    assert {"bpd_file", "bpd_integer_elbo", "file_over_integer"} <= page.keys.keys()
    assert "bpd_float_elbo" not in page.keys
    for cause in CAUSE_NAMES:
        assert f"{total['bits'][cause]:,.1f} bits, {total['bits'][cause] / total['file_bits']:.4%}" in shown
    assert set(total["bits"]) == {"integer_elbo", *CAUSE_NAMES}
    for part in (*total["groups"], *total["phases"]):
        assert f"{part['integer_elbo'] / total['dims']:.5f} bits/dim" in shown
    for bits in (total["file_bits"], *total["baselines"].values()):
        assert f"{bits / total['dims']:.4f} bits/dim" in shown
    for row in result["images"]:
        assert f"{row['name']}: {row['bpd_integer_elbo']:.4f} → {row['bpd_file']:.4f}" in shown
        assert f"{row['file_over_integer']:.5f}" in shown
    assert len(page.all("circle")) == count
    assert len(page.all("tr")) == count + 1


def test_the_page_needs_nothing_from_elsewhere_and_holds_every_image() -> None:
    result, text = evaluate(5)
    page = Page(text)
    assert not re.search(r"https?://|@import|url\(|<script[^>]+src", text)
    sources = [image["src"] or "" for image in page.all("img")]
    assert len(sources) == 2 * len(result["images"])
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/webp;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (32, 24)
    assert all(image["alt"] for image in page.all("img"))
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))


def test_a_thousand_images_make_a_modest_page() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (512, 768, 3), np.uint8)
    side = thumbnail_side(1000)
    one = draw_image(pixels, side), draw_heat(pixels[..., 0].astype(np.float32), side, 200.0)
    assert sum(len(uri) for uri in one) * 1000 < 12e6  # of noise, which is the worst
    assert thumbnail_side(1) > thumbnail_side(24) > side


def test_heat_goes_from_dark_to_bright() -> None:
    ramp = np.tile(np.linspace(0, 10, 64, dtype=np.float32), (64, 1))
    data = base64.b64decode(draw_heat(ramp, 64, 10).partition(",")[2])
    gray = np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(int)
    assert gray[:, 0].max() < 20
    assert gray[:, -1].min() > 200
    assert (np.diff(gray.mean(0)[::8]) > 0).all()


def test_charts_of_little_and_of_negative_numbers() -> None:
    for points in ([Point("a", 1.0, 1.0)], [Point("a", 0.0, 0.0), Point("b", 9.5, 12.0)]):
        assert Page(draw_scatter(points, "t", "x", "y")).all("circle")
    rectangles = Page(draw_bars([Bar("a", -3, "-3"), Bar("b", 6, "6"), Bar("c", 0, "0")], "t")).all("rect")
    ends = [(float(r["x"] or 0), float(r["x"] or 0) + float(r["width"] or 0)) for r in rectangles]
    assert ends[0][1] == pytest.approx(ends[1][0], abs=0.2)
    assert [nice_step(x) for x in (0.03, 0.8, 1, 7)] == pytest.approx([0.05, 1, 1, 10])


LOOK = """<script>
addEventListener('load', () => {
  const cut = [...document.querySelectorAll('svg text:not([transform])')].filter((text) => {
    const box = text.getBBox(), width = text.ownerSVGElement.viewBox.baseVal.width;
    return box.x < 0 || box.x + box.width > width;
  });
  document.body.dataset.seen = JSON.stringify({
    undrawn: [...document.images].filter((image) => !image.complete || !image.naturalWidth).length,
    cut: cut.map((text) => text.textContent),
    wider: Math.max(0, document.documentElement.scrollWidth - innerWidth),
  });
});
</script>"""


@pytest.mark.parametrize("count", [1, 24, 1000])
def test_it_opens_in_chromium(tmp_path: Path, count: int) -> None:
    """On a narrow window: no error, every image drawn, no text cut off, nothing wider than the window."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("needs Chromium, which is not installed, to open the report")
    result, text = evaluate(min(2, count), times=max(1, count // 2))
    page = tmp_path / "report.html"
    page.write_text(text.replace("</body>", LOOK + "</body>"), encoding="utf-8")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=500,800"]
    words += [f"--user-data-dir={tmp_path}", "--dump-dom", page.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    seen = re.search('data-seen="([^"]*)"', done.stdout)
    assert seen
    assert json.loads(unescape(seen[1])) == {"undrawn": 0, "cut": [], "wider": 0}
    shown = Page(done.stdout)
    assert shown.keys["bpd_file"] == f"{result['total']['bpd_file']:.4f}"
    assert len(shown.all("img")) == 2 * len(result["images"])
    assert len(shown.all("button")) == len(Page(text).all("th"))
