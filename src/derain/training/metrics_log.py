"""Records of a run for people: a CSV of its metrics, a plot of them, and sample sheets."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from derain.arrays import FloatArray, to_uint8
from derain.files import atomic_path, write_bytes

Row = dict[str, float]


def scored_sets(names: Iterable[str]) -> dict[str, str]:
    """The names of logged values that are the PSNR of a validation set, and the sets; the loss `psnr` is none."""
    return {name: name.removesuffix("/psnr") for name in names if name.endswith("/psnr") and name != "loss/psnr"}


class MetricsLog:
    """The metrics of a run as rows of numbers, kept in ``metrics.csv``.

    A resumed run drops the rows after the step it resumes from.
    """

    def __init__(self, path: Path, resume_at: int = 0) -> None:
        self.path = path
        self.rows: list[Row] = []
        if resume_at and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if row["step"] <= resume_at]

    def add(self, step: int, **values: float) -> None:
        """Add values of a step; they are written with the next :meth:`write`."""
        self.rows.append({"step": step, **values})

    def write(self) -> None:
        """Write the file atomically."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        with atomic_path(self.path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({k: f"{v:.7g}" for k, v in row.items()} for row in self.rows)

    def plot(self, path: Path) -> None:
        """Plot loss and PSNR (of a segmenter: mIoU) over the steps as a PNG, written atomically."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        steps, losses = self._series("loss")
        if losses:
            left.plot(steps, losses, color="#9ec5e8", linewidth=0.8)
            left.plot(steps, _smoothed(losses), color="#1f5fa8", label="loss")
        left.set(xlabel="step", title="training loss")
        for name, label in scored_sets(key for row in self.rows for key in row).items():
            steps, values = self._series(name)
            right.plot(steps, values, marker="o", markersize=3, label=label)
        right.set(xlabel="step", ylabel="dB", title="validation PSNR")
        steps, values = self._series("miou")
        if values:
            right.plot(steps, values, marker="o", markersize=3, label="all classes")
            right.set(ylabel="", title="validation mIoU")
        if right.lines:
            right.legend()
        for axes in (left, right):
            axes.grid(alpha=0.3)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=100)

    def _series(self, name: str) -> tuple[list[float], list[float]]:
        """Steps and values of one name."""
        rows = [row for row in self.rows if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]


def _smoothed(values: list[float]) -> list[float]:
    """Running mean over a window of a twentieth of the curve."""
    width = max(1, len(values) // 20)
    sums = np.cumsum([0.0, *values])
    return [float((sums[i + 1] - sums[max(0, i + 1 - width)]) / min(i + 1, width)) for i in range(len(values))]


def write_sheet(rows: list[tuple[FloatArray, ...]], path: Path, side: int = 256) -> None:
    """Write a PNG with a row for each sample, such as rainy | derained | clean; atomically.

    Args:
        rows: ``(H, W, 3)`` RGB in [0, 1] each.
        path: the file.
        side: images are cropped to at most so many pixels.
    """
    lines = []
    for row in rows:
        cells: list[Any] = []
        for image in row:
            cell = np.full((side, side, 3), 255, np.uint8)
            part = to_uint8(image[:side, :side])
            cell[: part.shape[0], : part.shape[1]] = part
            cells.append(np.pad(cell, ((2, 2), (2, 2), (0, 0)), constant_values=255))
        lines.append(np.concatenate(cells, axis=1))
    encoded, data = cv2.imencode(".png", np.concatenate(lines)[..., ::-1])
    assert encoded
    write_bytes(data.tobytes(), path)
