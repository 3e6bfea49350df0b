"""An evaluation as JSON, CSV and a self-contained HTML page."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

import derain
from derain.evaluation.score import ImageScore, Scores, ranked
from derain.metrics import PROTOCOLS

#: (model, data, picture name) -> rainy, derained, clean
Sheets = Mapping[tuple[str, str, str], tuple[npt.NDArray[np.uint8], ...]]


def as_json(evaluations: list[Scores], protocol: str, metric_files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """One object: protocol, versions, ``summary`` and ``images``. Infinite and unknown numbers become ``null``.

    Args:
        evaluations: what was measured.
        protocol: how.
        metric_files: name to sha256 of the files that metrics were read from.
    """
    return {
        "protocol": asdict(PROTOCOLS[protocol]),
        "versions": versions(),
        "metric_files": dict(metric_files or {}),
        "summary": [s.summary() for s in evaluations],
        "images": [
            {"model": s.model, "data": s.data, **{k: _finite(v) for k, v in _flat(i).items()}}
            for s in evaluations
            for i in s.images
        ],
        "failures": [{"model": s.model, "data": s.data, "reason": f} for s in evaluations for f in s.failures],
    }


def _flat(image: ImageScore) -> dict[str, Any]:
    fields = asdict(image)
    extra = fields.pop("extra")
    return {**fields, **extra}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    import torch

    return {
        "derain": derain.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def as_csv(evaluations: list[Scores]) -> str:
    """One row a picture."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", "data", "image", "psnr", "ssim", "psnr_rainy", "seconds", *_extras(evaluations)])
    for s in evaluations:
        for i in s.images:
            seconds = "" if i.seconds is None else f"{i.seconds:.4f}"
            values = [_plain(i.psnr, 4), _plain(i.ssim, 5), _plain(i.psnr_rainy, 4), seconds]
            writer.writerow([s.model, s.data, i.name, *values, *(f"{i.extra[e]:.4f}" for e in s.extras)])
    return buffer.getvalue()


def _plain(value: float, digits: int) -> str:
    """A number for a table; nothing where there is no ground truth."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


_EXTRA_NAMES = {
    "niqe": "NIQE-derain",
    "brisque": "BRISQUE-derain",
    "brisque_file": "BRISQUE (file)",
    "lpips": "LPIPS (alex)",
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .9rem;white-space:nowrap;
border-bottom:1px solid #d5dde5;text-align:right}
td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}
td:nth-child(-n+2){white-space:normal;overflow-wrap:anywhere;min-width:7rem}
figure{margin:1.5rem 0}figure div{display:grid;grid-template-columns:repeat(3,1fr);gap:4px}img{width:100%}
figcaption{color:#53626f}details td{font-variant-numeric:tabular-nums}
@media (prefers-color-scheme:dark){body{background:#12181e;color:#dbe3ea}td,th{border-color:#33404b}}
"""


def as_html(evaluations: list[Scores], protocol: str, sheets: Sheets) -> str:
    """A page with the table, and the worst, median and best pictures of each evaluation."""
    rule = PROTOCOLS[protocol]
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>derain eval</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>derain eval</h1>',
        f"<p>Protocol <b>{rule.name}</b> ({html.escape(rule.used_by)}). "
        + ", ".join(f"{html.escape(k)} {html.escape(v)}" for k, v in versions().items())
        + "</p><table>",
    ]
    headings, *rows = table(evaluations)
    parts.append("<tr>" + "".join(f"<th>{html.escape(h)}" for h in headings) + "</tr>")
    parts += ["<tr>" + "".join(f"<td>{html.escape(c)}" for c in cells) + "</tr>" for cells in rows]
    parts.append("</table>")
    for scores in evaluations:
        parts.append(f"<h2>{html.escape(scores.model)} on {html.escape(scores.data)}</h2>")
        for what, image in ranked(scores):
            parts.append(_figure(what, image, sheets.get((scores.model, scores.data, image.name), ())))
        columns = "".join(f"<th>{_EXTRA_NAMES[e]}" for e in scores.extras)
        parts.append(
            f"<details><summary>All pictures</summary><table><tr><th>image<th><th>PSNR<th>SSIM<th>rainy{columns}"
        )
        for i in scores.images:
            cells = [_plain(i.psnr, 2), _plain(i.ssim, 4), _plain(i.psnr_rainy, 2)]
            cells += [f"{i.extra[e]:.3f}" for e in scores.extras]
            parts.append(f"<tr><td>{html.escape(i.name)}<td>" + "".join(f"<td>{c}" for c in cells) + "</tr>")
        parts.append("</table></details>")
        if scores.failures:
            items = "".join(f"<li>{html.escape(f)}" for f in scores.failures)
            parts.append(f"<p>Not scored:</p><ul>{items}</ul>")
        parts.append(
            f"<p><small>weight sha256 {scores.model_sha256 or '–'}<br>data sha256 {scores.data_sha256}</small></p>"
        )
    return "".join(parts) + "</html>\n"


def table(evaluations: list[Scores]) -> list[list[str]]:
    """Headings, then one row an evaluation, as text."""
    rows = [s.summary() for s in evaluations]
    extras = _extras(evaluations)
    headings = ["model", "data", "n", "PSNR, dB", "SSIM", "rainy, dB", "s a picture"]
    lines = [headings + [_EXTRA_NAMES[name] for name in extras]]
    for row in rows:
        psnr = _number(row["psnr"], 2, row["psnr_standard_error"])
        if row["psnr_infinite"]:
            psnr = "∞" if row["psnr"] is None else f"{psnr} (and {row['psnr_infinite']} × ∞)"
        cells = [row["model"], row["data"], str(row["n"]), psnr, _number(row["ssim"], 4, row["ssim_standard_error"])]
        cells += [_number(row["psnr_rainy"], 2), _number(row["seconds"], 2)]
        lines.append(cells + [_number(row[name], 3) for name in extras])
    return lines


def _extras(evaluations: list[Scores]) -> tuple[str, ...]:
    return evaluations[0].extras if evaluations else ()


def _number(value: float | None, digits: int, error: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def _figure(what: str, image: ImageScore, pictures: tuple[npt.NDArray[np.uint8], ...]) -> str:
    names = ("rainy", "derained", "clean")[: 2 if math.isnan(image.psnr) else 3]
    tags = "".join(f'<img alt="{n}" src="{_inline(p)}">' for n, p in zip(names, pictures, strict=False))
    figures = [f"{image.psnr:.2f} dB", f"SSIM {image.ssim:.4f}"] if len(names) == 3 else []
    figures += [f"{_EXTRA_NAMES[name]} {value:.3f}" for name, value in image.extra.items()]
    caption = f"{what}: {html.escape(image.name)}, {', '.join(figures)}. {', '.join(names).capitalize()}."
    return f"<figure><div>{tags}</div><figcaption>{caption}</figcaption></figure>"


def _inline(picture: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
