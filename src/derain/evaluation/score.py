"""Score a model, or a folder of ready-made results, on a paired set."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from derain.data.layouts import Pair, PairedFolder, key_of, read_rgb
from derain.derainer import Derainer
from derain.errors import DerainError, InputError
from derain.metrics import BrisqueModel, brisque, lpips, niqe, psnr, ssim

Picture = npt.NDArray[np.uint8]
FloatPicture = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ImageScore:
    """One picture's numbers; ``seconds`` is the network with its pre- and post-processing, no file I/O.

    Without ground truth, ``psnr``, ``ssim`` and ``psnr_rainy`` are NaN.
    """

    name: str
    psnr: float
    ssim: float
    psnr_rainy: float
    seconds: float | None
    extra: dict[str, float] = field(default_factory=dict)


@dataclass
class Scores:
    """A model on a set.

    Attributes:
        model, data: as the user named them.
        protocol: name of the preset.
        images: one entry a pair that could be scored.
        failures: one line for each that could not.
        model_sha256: of the weight file; empty for ready-made results.
        data_sha256: of the pixels of all scored pairs, in order.
        extras: further metrics that were measured.
    """

    model: str
    data: str
    protocol: str
    images: list[ImageScore] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    model_sha256: str = ""
    data_sha256: str = ""
    extras: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Means over the pictures, with standard errors; infinite PSNRs are left out and counted."""
        finite = [i.psnr for i in self.images if math.isfinite(i.psnr)]
        similar = [i.ssim for i in self.images if math.isfinite(i.ssim)]
        timed = [i.seconds for i in self.images if i.seconds is not None]
        return {
            "model": self.model,
            "data": self.data,
            "n": len(self.images),
            "psnr": _mean(finite),
            "psnr_standard_error": _standard_error(finite),
            "psnr_infinite": sum(math.isinf(i.psnr) for i in self.images),
            "psnr_rainy": _mean([i.psnr_rainy for i in self.images if math.isfinite(i.psnr_rainy)]),
            "ssim": _mean(similar),
            "ssim_standard_error": _standard_error(similar),
            "seconds": statistics.median(timed) if timed else None,
            **{name: _mean([i.extra[name] for i in self.images]) for name in self.extras},
            "failed": len(self.failures),
            "model_sha256": self.model_sha256,
            "data_sha256": self.data_sha256,
        }


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _standard_error(values: list[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


#: Gives the derained picture of a pair, ``(H, W, 3)`` float32 in [0, 1], and the seconds it took, if known.
Source = Callable[[Pair, Picture], tuple[FloatPicture, float | None]]
Measure = Callable[[torch.Tensor, torch.Tensor], float]
#: Metrics beside PSNR and SSIM, from the derained and the clean picture; they see unrounded values.
EXTRAS: dict[str, Measure] = {
    "niqe": lambda ours, _truth: niqe(ours[0]),
    "brisque": lambda ours, _truth: brisque(ours[0]),
    "lpips": lambda ours, truth: lpips(ours, truth.float() / 255).item(),
}
#: Those that look at the derained picture alone; the last is BRISQUE by a published model's file.
NO_REFERENCE = frozenset({"niqe", "brisque", "brisque_file"})


def measure_by(model: BrisqueModel) -> Measure:
    """The metric ``brisque_file``."""
    return lambda ours, _truth: brisque(ours[0], model)


#: Called after each pair with its name and the rainy, derained and clean pictures.
OnPair = Callable[[str, Picture, Picture, Picture], None]


def from_model(derainer: Derainer) -> Source:
    """Results made now. They stay float, so that protocols without quantization see no rounding."""

    def derain(_pair: Pair, rainy: Picture) -> tuple[FloatPicture, float]:
        unit = rainy.astype(np.float32) / np.float32(255)
        start = time.perf_counter()
        derained = derainer(unit)
        return derained, time.perf_counter() - start

    return derain


def from_folder(results: Path) -> Source:
    """Ready-made results, paired by name.

    Raises:
        InputError: not a folder, or two results for one name.
    """
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; give the folder of derained pictures")
    by_key: dict[str, Path] = {}
    for path in sorted(p for p in results.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if (other := by_key.setdefault(key_of(path), path)) != path:
            raise InputError(f"{results}: {other.name} and {path.name} are results for the same name; keep one")

    def find(pair: Pair, rainy: Picture) -> tuple[FloatPicture, None]:
        path = by_key.get(key_of(pair.rainy))
        if path is None:
            raise InputError(f"{pair.rainy}: no result for it in {results}; add it or leave the pair out")
        derained = read_rgb(path)
        if derained.shape != rainy.shape:
            raise InputError(f"{path}: its size differs from {pair.rainy}; results must have the input's size")
        return derained.astype(np.float32) / np.float32(255), None

    return find


def score(
    source: Source,
    folder: PairedFolder,
    *,
    model: str,
    model_sha256: str = "",
    protocol: str = "y",
    extras: tuple[str, ...] = (),
    measures: Mapping[str, Measure] = EXTRAS,
    on_pair: OnPair | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Scores:
    """Score every pair of a set.

    Args:
        source: where results come from: :func:`from_model` or :func:`from_folder`.
        folder: the set.
        model, model_sha256: what to call the source in the result.
        protocol: a key of :data:`derain.metrics.PROTOCOLS`.
        extras: further metrics, keys of ``measures``.
        measures: what they are.
        on_pair: receives the pictures.
        on_step: called after each pair, scored or not.

    Returns:
        The scores. A pair that cannot be read is told in ``failures`` and left out. A folder without
        ground truth gets ``extras`` alone.
    """
    scores = Scores(model, str(folder.root), protocol, model_sha256=model_sha256, extras=extras)
    digest = hashlib.sha256()
    for pair in folder.pairs:
        try:
            rainy, clean = pair.read()
            derained, seconds = source(pair, rainy)
            ours, before, truth = (_batch(p) for p in (derained, rainy, clean))
            extra = {name: measures[name](ours, truth) for name in extras}
            figures = (math.nan, math.nan, math.nan)
            if folder.truth:
                figures = (
                    psnr(ours, truth, protocol).item(),
                    ssim(ours, truth, protocol).item(),
                    psnr(before, truth, protocol).item(),
                )
            scores.images.append(ImageScore(pair.name, *figures, seconds, extra))
        except DerainError as error:
            scores.failures.append(str(error))
        except ValueError as error:  # too small for SSIM's window or NIQE's patches
            scores.failures.append(f"{pair.rainy}: {error}")
        else:
            for picture in (rainy, clean):
                digest.update(repr(picture.shape).encode() + picture.tobytes())
            if on_pair is not None:
                on_pair(pair.name, rainy, to_uint8(derained), clean)
        on_step()
    scores.data_sha256 = digest.hexdigest()
    return scores


def to_uint8(picture: FloatPicture) -> Picture:
    """Float in [0, 1] to uint8, rounded."""
    rounded: Picture = (picture * 255 + 0.5).astype(np.uint8)
    return rounded


def _batch(picture: Picture | FloatPicture) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]


def ranked(scores: Scores) -> Iterator[tuple[str, ImageScore]]:
    """The worst, median and best pictures, with what they are; each picture once.

    By PSNR; without ground truth by the first further metric, all of which are better when lower.
    """
    first = next(iter(scores.extras), None)
    ordered = sorted(
        scores.images, key=lambda i: i.psnr if first is None or not math.isnan(i.psnr) else -i.extra[first]
    )
    seen: set[str] = set()
    for what, place in (("worst", 0), ("median", len(ordered) // 2), ("best", -1)):
        if ordered and ordered[place].name not in seen:
            seen.add(ordered[place].name)
            yield what, ordered[place]
