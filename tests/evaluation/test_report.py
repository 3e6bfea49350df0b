"""Reports: JSON, CSV and HTML of given scores."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from derain.evaluation.report import as_csv, as_html, as_json, summary_table
from derain.evaluation.score import ImageScore, Scores
from derain.metrics import PROTOCOLS


@pytest.fixture
def scores():
    images = [
        ImageScore("<1>", 30.0, 0.9, 25.0, 0.5, {"niqe": 3.0}),
        ImageScore("2", math.inf, 1.0, 26.0, 0.5, {"niqe": 2.0}),
    ]
    return Scores("m & m", "<set>", "y", images, ["<b>broken</b>"], extras=("niqe",))


@pytest.fixture
def unknown():
    return Scores(
        "m", "real", "y", [ImageScore("r", math.nan, math.nan, math.nan, None, {"niqe": 4.0})], extras=("niqe",)
    )


def test_json_holds_no_infinite_or_unknown_numbers(scores, unknown):
    record = json.loads(json.dumps(as_json([scores, unknown], PROTOCOLS["y"], {"file": "00"}), allow_nan=False))
    assert [(i["name"], i["psnr"], i["niqe"]) for i in record["images"]] == [
        ("<1>", 30.0, 3.0),
        ("2", None, 2.0),
        ("r", None, 4.0),
    ]
    assert record["summary"][0]["psnr_infinite"] == 1
    assert record["failures"] == [{"model": "m & m", "data": "<set>", "reason": "<b>broken</b>"}]
    assert (record["protocol"]["name"], record["protocol"]["quantizer"]) == ("y", "round")
    assert record["metric_files"] == {"file": "00"}


def test_csv_is_empty_where_there_is_no_ground_truth(scores, unknown):
    rows = list(csv.DictReader(io.StringIO(as_csv([scores, unknown]))))
    assert [row["psnr"] for row in rows] == ["30.0000", "inf", ""]
    assert [row["seconds"] for row in rows] == ["0.5000", "0.5000", ""]
    assert [row["niqe"] for row in rows] == ["3.0000", "2.0000", "4.0000"]


def test_table_counts_infinite_values_apart(scores, unknown):
    headings, *rows = summary_table([scores, unknown])
    assert headings[-1] == "NIQE-derain"
    assert rows[0][3] == "30.00 (and 1 × ∞)"
    assert rows[1][3:7] == ["–"] * 4


class _Page(HTMLParser):
    """Tags, image sources and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.sources, self.text = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name == "src"]

    def handle_data(self, data):
        self.text += data.split()


def test_page_shows_images_and_escapes_names(scores, unknown):
    rainy, derained, clean = (np.full((8, 12, 3), value, np.uint8) for value in (40, 120, 200))
    examples = {("m & m", "<set>", name): (rainy, derained, clean) for name in ("<1>", "2")}
    examples["m", "real", "r"] = (rainy, derained, clean)
    source = as_html([scores, unknown], PROTOCOLS["y"], examples)
    page = _Page(source)
    text = " ".join(page.text)
    assert page.tags.count("figure") == 3
    assert len(page.sources) == 3 + 3 + 2  # no clean image without ground truth
    first = page.sources[0].removeprefix("data:image/jpeg;base64,")
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(first)))).mean() == pytest.approx(40, abs=1)
    assert "b" not in page.tags[page.tags.index("h2") :]  # the failure's markup is text
    assert "m & m on <set>" in text
    assert "<b>broken</b>" in text
    assert "worst: <1>, 30.00 dB, SSIM 0.9000, NIQE-derain 3.000. Rainy, derained, clean." in text
    assert "worst: r, NIQE-derain 4.000. Rainy, derained." in text
    assert "http" not in source
