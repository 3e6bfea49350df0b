"""Score a model, or a folder of existing results, on a paired set."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from derain.arrays import FloatArray, UInt8Array, to_float, to_uint8
from derain.data.layouts import Pair, PairedFolder, read_rgb
from derain.data.matching import key_of
from derain.derainer import Derainer
from derain.errors import DerainError, InputError
from derain.metrics import BrisqueModel, brisque, lpips, niqe, psnr, ssim

#: Returns the derained image of a pair, ``(H, W, 3)`` float32 in [0, 1], and the seconds it took, if known.
Source = Callable[[Pair, UInt8Array], tuple[FloatArray, float | None]]
#: A metric of the derained and the clean image, ``(1, 3, H, W)``: float in [0, 1], not rounded, and uint8.
Metric = Callable[[torch.Tensor, torch.Tensor], float]
#: Called after each scored pair with its name and the rainy, derained and clean images.
OnPair = Callable[[str, UInt8Array, UInt8Array, UInt8Array], None]

#: Metrics available in addition to PSNR and SSIM.
EXTRA_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "niqe": lambda derained, _clean: niqe(derained[0]),
        "brisque": lambda derained, _clean: brisque(derained[0]),
        "lpips": lambda derained, clean: lpips(derained, clean.float() / 255).item(),
    }
)
#: Metrics that need no ground truth; ``brisque_file`` is :func:`brisque_metric` of a user's model file.
NO_REFERENCE = frozenset({"niqe", "brisque", "brisque_file"})
_NO_EXTRAS: Mapping[str, Metric] = MappingProxyType({})


@dataclass(frozen=True)
class ImageScore:
    """Scores of one image.

    Attributes:
        name: of the pair.
        psnr, ssim: of the derained image; NaN without ground truth.
        psnr_rainy: of the rainy input; NaN without ground truth.
        seconds: of the network with its pre- and postprocessing, without file I/O; ``None`` if unknown.
        extra: values of the additional metrics.
    """

    name: str
    psnr: float
    ssim: float
    psnr_rainy: float
    seconds: float | None
    extra: dict[str, float] = field(default_factory=dict)


@dataclass
class Scores:
    """Scores of a model on a set.

    Attributes:
        model, data: as given by the user.
        protocol: name of the metric protocol.
        images: one entry per scored pair.
        failures: one line per pair that could not be scored.
        model_sha256: of the model file; empty for existing results.
        data_sha256: of the pixels of all scored pairs, in order.
        extras: names of the additional metrics.
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
        """Means over the images with standard errors; infinite PSNRs are excluded and counted."""
        finite_psnr = [i.psnr for i in self.images if math.isfinite(i.psnr)]
        finite_ssim = [i.ssim for i in self.images if math.isfinite(i.ssim)]
        seconds = [i.seconds for i in self.images if i.seconds is not None]
        return {
            "model": self.model,
            "data": self.data,
            "n": len(self.images),
            "psnr": _mean(finite_psnr),
            "psnr_standard_error": _standard_error(finite_psnr),
            "psnr_infinite": sum(math.isinf(i.psnr) for i in self.images),
            "psnr_rainy": _mean([i.psnr_rainy for i in self.images if math.isfinite(i.psnr_rainy)]),
            "ssim": _mean(finite_ssim),
            "ssim_standard_error": _standard_error(finite_ssim),
            "seconds": statistics.median(seconds) if seconds else None,
            **{name: _mean([i.extra[name] for i in self.images]) for name in self.extras},
            "failed": len(self.failures),
            "model_sha256": self.model_sha256,
            "data_sha256": self.data_sha256,
        }


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _standard_error(values: list[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def brisque_metric(model: BrisqueModel) -> Metric:
    """BRISQUE with a model read from a file, as a metric of :func:`score`."""
    return lambda derained, _clean: brisque(derained[0], model)


def from_model(derainer: Derainer) -> Source:
    """Results computed by a model; they stay float, so that protocols without quantization see no rounding."""

    def derain(_pair: Pair, rainy: UInt8Array) -> tuple[FloatArray, float]:
        image = to_float(rainy)
        start = time.perf_counter()
        derained = derainer(image)
        return derained, time.perf_counter() - start

    return derain


def from_folder(results: Path) -> Source:
    """Existing results, matched to the pairs by name.

    Raises:
        InputError: not a folder, or two results for one name.
    """
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; give the folder of derained images")
    by_key: dict[str, Path] = {}
    for path in sorted(p for p in results.rglob("*") if p.is_file() and not p.name.startswith(".")):
        if (other := by_key.setdefault(key_of(path), path)) != path:
            raise InputError(f"{results}: {other.name} and {path.name} are results for the same name; keep one")

    def find(pair: Pair, rainy: UInt8Array) -> tuple[FloatArray, None]:
        path = by_key.get(key_of(pair.rainy))
        if path is None:
            raise InputError(f"{pair.rainy}: no result for it in {results}; add it or leave the pair out")
        derained = read_rgb(path)
        if derained.shape != rainy.shape:
            raise InputError(f"{path}: its size differs from {pair.rainy}; results must have the input's size")
        return to_float(derained), None

    return find


def score(
    source: Source,
    folder: PairedFolder,
    *,
    model: str,
    model_sha256: str = "",
    protocol: str = "y",
    extras: Mapping[str, Metric] = _NO_EXTRAS,
    on_pair: OnPair | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Scores:
    """Score every pair of a set.

    Args:
        source: provides the results: :func:`from_model` or :func:`from_folder`.
        folder: the set.
        model, model_sha256: identify the source in the returned scores.
        protocol: a key of :data:`derain.metrics.PROTOCOLS`.
        extras: additional metrics by name, such as entries of :data:`EXTRA_METRICS`.
        on_pair: receives the images of each scored pair.
        on_step: called after each pair, scored or not.

    Returns:
        The scores. A pair that cannot be read is skipped and listed in ``failures``. Without ground truth,
        only ``extras`` are computed.
    """
    scores = Scores(model, str(folder.root), protocol, model_sha256=model_sha256, extras=tuple(extras))
    digest = hashlib.sha256()
    for pair in folder.pairs:
        try:
            rainy, clean = pair.read()
            derained, seconds = source(pair, rainy)
            output, rainy_input, truth = (_batch(image) for image in (derained, rainy, clean))
            extra = {name: metric(output, truth) for name, metric in extras.items()}
            values = (math.nan, math.nan, math.nan)
            if folder.truth:
                values = (
                    psnr(output, truth, protocol).item(),
                    ssim(output, truth, protocol).item(),
                    psnr(rainy_input, truth, protocol).item(),
                )
            scores.images.append(ImageScore(pair.name, *values, seconds, extra))
        except DerainError as error:
            scores.failures.append(str(error))
        except ValueError as error:  # too small for SSIM's window or NIQE's patches
            scores.failures.append(f"{pair.rainy}: {error}")
        else:
            for image in (rainy, clean):
                digest.update(repr(image.shape).encode() + image.tobytes())
            if on_pair is not None:
                on_pair(pair.name, rainy, to_uint8(derained), clean)
        on_step()
    scores.data_sha256 = digest.hexdigest()
    return scores


def _batch(image: UInt8Array | FloatArray) -> torch.Tensor:
    # A strided view, not a copy: the memory order decides the last bits of sums in published figures.
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def ranked(scores: Scores) -> Iterator[tuple[str, ImageScore]]:
    """The worst, median and best image, each with its rank in words; an image is listed once.

    Images are ordered by PSNR, or without ground truth by the first additional metric, where lower is better.
    """
    first = next(iter(scores.extras), None)
    ordered = sorted(
        scores.images, key=lambda i: i.psnr if first is None or not math.isnan(i.psnr) else -i.extra[first]
    )
    seen: set[str] = set()
    for rank, index in (("worst", 0), ("median", len(ordered) // 2), ("best", -1)):
        if ordered and ordered[index].name not in seen:
            seen.add(ordered[index].name)
            yield rank, ordered[index]
