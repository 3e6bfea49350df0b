"""Scores as JSON, CSV and a self-contained HTML page."""

from __future__ import annotations

import base64
import csv
import io
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from derain._version import __version__
from derain.arrays import UInt8Array
from derain.evaluation.score import ImageScore, Scores, ranked
from derain.metrics import Protocol

#: (model, data, image name) -> rainy, derained, clean
Examples = Mapping[tuple[str, str, str], tuple[UInt8Array, ...]]

_EXTRA_NAMES = {
    "niqe": "NIQE-derain",
    "brisque": "BRISQUE-derain",
    "brisque_file": "BRISQUE (file)",
    "lpips": "LPIPS (alex)",
    "unique": "UNIQUE",
}


def as_json(
    evaluations: list[Scores], protocol: Protocol, metric_files: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Protocol, versions, ``summary`` and ``images`` as plain data; infinite and unknown numbers become ``null``.

    Args:
        evaluations: the scores.
        protocol: the metric protocol they were computed with.
        metric_files: name to sha256 of the model files of metrics.
    """
    return {
        "protocol": asdict(protocol),
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
    """Software versions, machine and threads that affect the numbers."""
    import torch

    return {
        "derain": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
    }


def as_csv(evaluations: list[Scores]) -> str:
    """One row per image."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["model", "data", "image", "psnr", "ssim", "psnr_rainy", "seconds", *_extras(evaluations)])
    for s in evaluations:
        for i in s.images:
            seconds = "" if i.seconds is None else f"{i.seconds:.4f}"
            values = [_known(i.psnr, 4), _known(i.ssim, 5), _known(i.psnr_rainy, 4), seconds]
            writer.writerow([s.model, s.data, i.name, *values, *(f"{i.extra[e]:.4f}" for e in s.extras)])
    return buffer.getvalue()


def as_html(evaluations: list[Scores], protocol: Protocol, examples: Examples) -> str:
    """A page with the summary table, and the worst, median and best images of each evaluation."""
    headings, *rows = summary_table(evaluations)
    return _template().render(
        protocol=protocol,
        versions=versions(),
        headings=headings,
        rows=rows,
        evaluations=[_section(scores, examples) for scores in evaluations],
    )


def summary_table(evaluations: list[Scores]) -> list[list[str]]:
    """The headings, then one row per evaluation, as text."""
    extras = _extras(evaluations)
    headings = ["model", "data", "n", "PSNR, dB", "SSIM", "rainy, dB", "s per image"]
    lines = [headings + [_EXTRA_NAMES[name] for name in extras]]
    for row in (s.summary() for s in evaluations):
        psnr = _number(row["psnr"], 2, row["psnr_standard_error"])
        if row["psnr_infinite"]:
            psnr = "∞" if row["psnr"] is None else f"{psnr} (and {row['psnr_infinite']} × ∞)"
        cells = [row["model"], row["data"], str(row["n"]), psnr, _number(row["ssim"], 4, row["ssim_standard_error"])]
        cells += [_number(row["psnr_rainy"], 2), _number(row["seconds"], 2)]
        lines.append(cells + [_number(row[name], 3) for name in extras])
    return lines


def _extras(evaluations: list[Scores]) -> tuple[str, ...]:
    return evaluations[0].extras if evaluations else ()


def _known(value: float, digits: int) -> str:
    """A number for a table; empty without ground truth."""
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _number(value: float | None, digits: int, error: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


@lru_cache(maxsize=2)
def _template(name: str = "report.html.j2") -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("derain", "evaluation/templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _section(scores: Scores, examples: Examples) -> dict[str, Any]:
    """What the page shows of one evaluation."""
    return {
        "title": f"{scores.model} on {scores.data}",
        "figures": [
            _figure(rank, image, examples.get((scores.model, scores.data, image.name), ()))
            for rank, image in ranked(scores)
        ],
        "extras": [_EXTRA_NAMES[name] for name in scores.extras],
        "images": [
            (
                image.name,
                [_known(image.psnr, 2), _known(image.ssim, 4), _known(image.psnr_rainy, 2)]
                + [f"{image.extra[name]:.3f}" for name in scores.extras],
            )
            for image in scores.images
        ],
        "failures": scores.failures,
        "model_sha256": scores.model_sha256,
        "data_sha256": scores.data_sha256,
    }


def _figure(rank: str, image: ImageScore, arrays: tuple[UInt8Array, ...]) -> dict[str, Any]:
    has_truth = not math.isnan(image.psnr)
    names = ("rainy", "derained", "clean") if has_truth else ("rainy", "derained")
    values = [f"{image.psnr:.2f} dB", f"SSIM {image.ssim:.4f}"] if has_truth else []
    values += [f"{_EXTRA_NAMES[name]} {value:.3f}" for name, value in image.extra.items()]
    return {
        "images": [(name, _data_uri(array)) for name, array in zip(names, arrays, strict=False)],
        "caption": f"{rank}: {image.name}, {', '.join(values)}. {', '.join(names).capitalize()}.",
    }


def _data_uri(image: UInt8Array) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def downstream_page(
    title: str,
    summary: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    figures: Sequence[tuple[str, UInt8Array]],
) -> str:
    """The results of a downstream task as a self-contained HTML page.

    Args:
        title, summary: of the page.
        headings, rows: of its table.
        figures: captions and images, ``(H, W, 3)``.
    """
    template = _template("downstream.html.j2")
    shown = [(caption, _data_uri(image)) for caption, image in figures]
    return template.render(title=title, summary=summary, headings=headings, rows=rows, figures=shown)
