"""The report: sound, self-contained, and with the numbers of the JSON."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from nvae_codec.coding.codec import ModelCodec
from nvae_codec.evaluation.baselines import baseline_bits
from nvae_codec.evaluation.images import Evaluator
from nvae_codec.evaluation.overhead import CAUSES
from nvae_codec.evaluation.report.charts import HEIGHT, WIDTH, Bar, Point, draw_bars, draw_lines, draw_points, nice_step
from nvae_codec.evaluation.report.page import Shown, list_charts, write_report
from nvae_codec.evaluation.report.thumbnails import draw_heat, draw_image, thumbnail_side
from nvae_codec.images.raster import RasterImage
from tests.models import exported_model, make_image

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
    evaluator, side = Evaluator(ModelCodec(exported_model()), samples=1), thumbnail_side(count * times)
    rows, shown = [], []
    for index in range(count):
        pixels = make_image(24, 32, index)
        row, heat = evaluator.measure(f"<{index}> & co", RasterImage.from_pixels(pixels))
        row["baselines"] = baseline_bits(pixels)
        rows.append(row)
        shown.append(Shown.of(pixels, heat, side))
    result = evaluator.describe(rows * times, None)
    return result, write_report(result, shown * times, side)


def data_of(text: str) -> dict[str, Any]:
    """The JSON in a page."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    read: dict[str, Any] = json.loads(data)
    return read


def test_charts_show_the_numbers_of_the_json() -> None:
    result, text = evaluate(5)
    total, data = result["total"], data_of(text)
    assert data["result"] == result
    charts = {chart["name"]: chart for chart in data["charts"]}
    assert list(charts) == ["achieved", "relative", "overhead", "groups", "phases", "baselines"]
    told = {name: " ".join(Page(chart["svg"]).text) for name, chart in charts.items()}
    rows = {name: list(csv.reader(io.StringIO(chart["csv"]))) for name, chart in charts.items()}
    for cause in CAUSES[1:]:
        assert f"{total['bits'][cause]:,.1f} bits, {total['bits'][cause] / total['file_bits']:.4%}" in told["overhead"]
    assert [float(bits) for _, bits in rows["overhead"][1:]] == [total["bits"][cause] for cause in CAUSES[1:]]
    for name in ("groups", "phases"):
        for part in total[name]:
            assert f"{part['integer_elbo'] / total['dims']:.5f} bits/dim" in told[name]
    for name, bits in total["baselines"].items():
        assert (
            f"{bits / total['dims']:.4f} bits/dim, {100 * (total['file_bits'] / bits - 1):+.1f} %" in told["baselines"]
        )
        assert name in told["baselines"]
    for at, row in enumerate(result["images"], 1):
        assert f"{row['name']}: {row['bpd_integer_elbo']:.4f} → {row['bpd_file']:.4f}" in told["achieved"]
        assert f"{row['name']}: {100 * (row['file_over_integer'] - 1):+.3f} %" in told["relative"]
        assert rows["achieved"][at][0] == row["name"]
    assert len(Page(charts["achieved"]["svg"]).all("circle")) == 5


def test_charts_are_files(tmp_path: Path) -> None:
    for chart in list_charts(evaluate(1)[0]):
        chart.save(tmp_path / "charts")
        ElementTree.parse(tmp_path / "charts" / f"{chart.name}.svg")
    assert len(list((tmp_path / "charts").iterdir())) == 12


def test_the_page_needs_nothing_from_elsewhere_and_holds_every_image() -> None:
    result, text = evaluate(5)
    Page(text)
    assert not re.search(r"https?://|@import|url\(|<script[^>]+src", text.replace("http://www.w3.org/2000/svg", ""))
    sources = [each[kind] for each in data_of(text)["shown"] for kind in ("image", "heat")]
    assert len(sources) == 2 * len(result["images"])
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/webp;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (32, 24)


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
    for points in ([Point(1.0, 1.0, "a")], [Point(0.0, 0.0, "a"), Point(9.5, -12.0, "b")]):
        for diagonal in (False, True):
            page = Page(draw_points(points, "t", "x", "y", diagonal=diagonal))
            places = [(float(c["cx"] or -1), float(c["cy"] or -1)) for c in page.all("circle")]
            assert len(places) == len(points)
            assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    rectangles = Page(draw_bars([Bar("a", -3, "-3"), Bar("b", 6, "6"), Bar("c", 0, "0")], "t")).all("rect")
    ends = [(float(r["x"] or 0), float(r["x"] or 0) + float(r["width"] or 0)) for r in rectangles]
    assert ends[0][1] == pytest.approx(ends[1][0], abs=0.2)
    assert [nice_step(x) for x in (0.03, 0.8, 1, 7)] == pytest.approx([0.05, 1, 1, 10])


def test_lines_have_names_and_both_axes() -> None:
    svg = draw_lines([("train", [(0, 4.0), (10, 3.0)]), ("valid", [(0, 4.2), (10, 3.5)])], "t", "minutes", "bits/dim")
    page = Page(svg)
    assert len(page.all("polyline")) == 2
    assert {"train", "valid", "minutes", "bits/dim"} <= set(page.text)


LOOK = """<script>
addEventListener('load', () => {
  const clipped = [...document.querySelectorAll('svg text:not([transform])')].filter((text) => {
    const box = text.getBBox(), width = text.ownerSVGElement.viewBox.baseVal.width;
    return box.x < 0 || box.x + box.width > width;
  });
  const first = () => document.querySelector('#rows tbody tr td').textContent, before = first();
  document.querySelector('#rows th button').click();
  const once = first();
  document.querySelector('#rows th button').click();
  document.body.dataset.seen = JSON.stringify({
    undrawn: [...document.images].filter((image) => !image.complete || !image.naturalWidth).length,
    clipped: clipped.map((text) => text.textContent),
    wider: Math.max(0, document.documentElement.scrollWidth - innerWidth),
    sorted: [before, once, first()],
    links: document.querySelectorAll('.save a[download]').length,
  });
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or pytest.skip("needs Chromium, which is not installed, to open the report")


def open_page(browser: str, page: Path, *how: str) -> subprocess.CompletedProcess[str]:
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=500,800"]
    words += [f"--user-data-dir={page.parent}", *how, page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 24, 1000])
def test_it_opens_in_chromium(tmp_path: Path, browser: str, count: int) -> None:
    """In a narrow window: no error, every image drawn, no text clipped, nothing wider than the window."""
    result, text = evaluate(min(2, count), times=max(1, count // 2))
    page = tmp_path / "report.html"
    page.write_text(text.replace("</body>", LOOK + "</body>"), encoding="utf-8")
    done = open_page(browser, page, "--dump-dom")
    assert "CONSOLE" not in done.stderr
    seen = re.search('data-seen="([^"]*)"', done.stdout)
    assert seen
    names = [row["name"] for row in result["images"]]
    assert json.loads(unescape(seen[1])) == {
        "undrawn": 0, "clipped": [], "wider": 0, "sorted": [names[0], min(names), max(names)], "links": 13,
    }  # fmt: skip
    shown, total = Page(done.stdout), result["total"]
    for key, told in shown.keys.items():
        digits = len(told.removesuffix(" s").split(".")[1])
        assert told.removesuffix(" s") == f"{total[key]:.{digits}f}"
    assert {"bpd_file", "bpd_integer_elbo", "file_over_integer"} <= shown.keys.keys()
    assert "bpd_float_elbo" not in shown.keys
    assert f"{result['images'][0]['file_over_integer']:.5f}" in shown.text
    assert len(shown.all("img")) == 2 * len(names)
    assert len(shown.all("tr")) == len(names) + 1
    assert all(image["alt"] for image in shown.all("img"))


def test_it_prints_on_few_pages(tmp_path: Path, browser: str) -> None:
    page, pdf = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(evaluate(2, times=12)[1], encoding="utf-8")
    open_page(browser, page, f"--print-to-pdf={pdf}")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) <= 3
