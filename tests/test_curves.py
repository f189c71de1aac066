"""Learning curves come from the logs: a line per run and kind, inside the drawing, lower where bits are fewer."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from nvae_codec.evaluation.report.charts import HEIGHT, WIDTH
from tools.curves import draw_curves, read_series


def test_curves_show_the_log(tmp_path: Path) -> None:
    run = tmp_path / "photo<1>"
    run.mkdir()
    lines = [
        {"seconds": 60 * at, "valid": {"bits_per_dim": 3 + 1 / (1 + at), "histories": {"chroma": 2 + 1 / (1 + at)}}}
        for at in range(30)
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    root = ElementTree.fromstring(draw_curves(read_series([run])))
    curves = [element.get("points", "") for element in root if element.tag.endswith("polyline")]
    labels = [
        element.text or ""
        for element in root
        if element.tag.endswith("text") and (element.text or "").startswith("photo<1>")
    ]
    assert labels == ["photo<1> 3.033", "photo<1> chroma 2.033"]
    ends = []
    for curve in curves:
        points = [tuple(map(float, point.split(","))) for point in curve.split()]
        assert len(points) == 30
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
        assert [y for _, y in points] == sorted(y for _, y in points), "bits fall, so the line goes down"
        ends.append(points[-1][1])
    assert ends[0] < ends[1], "the chroma line, of fewer bits, is below"
    assert not re.search(r"nan|inf", draw_curves(read_series([run])))
