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
from derain.data.layouts import Pair, PairedFolder
from derain.derainer import Derainer
from derain.errors import DerainError
from derain.metrics import UNIQUE, BrisqueModel, Protocol, brisque, lpips, niqe, protocol_named, psnr, ssim, unique

from .results import ResultFolder

#: Returns the derained image of a pair, ``(H, W, 3)`` uint8 or float32 in [0, 1], and the seconds it took, if known.
Source = Callable[[Pair, UInt8Array], tuple[UInt8Array | FloatArray, float | None]]
#: A metric of the derained and the clean image, ``(1, 3, H, W)``: float in [0, 1], and uint8.
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
#: Metrics that need no ground truth; ``brisque_file`` is :func:`brisque_metric` of a user's model file, ``unique``
#: :func:`unique_metric`.
NO_REFERENCE = frozenset({"niqe", "brisque", "brisque_file", "unique"})
_HIGHER_IS_BETTER = frozenset({"unique"})
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


def unique_metric(model: UNIQUE) -> Metric:
    """UNIQUE with weights read from a file, as a metric of :func:`score`; higher is better."""
    return lambda derained, _clean: unique(derained[0], model)


def from_model(derainer: Derainer) -> Source:
    """Results computed by a model, float; :func:`score` makes 8 bits of them as its protocol says."""

    def derain(_pair: Pair, rainy: UInt8Array) -> tuple[FloatArray, float]:
        image = to_float(rainy)
        start = time.perf_counter()
        derained = derainer(image)
        return derained, time.perf_counter() - start

    return derain


def from_folder(results: Path, data: Path | None = None) -> Source:
    """Existing results, matched to the pairs by name; see :class:`~derain.evaluation.results.ResultFolder`.

    Raises:
        InputError: not a folder, no images in it, or two results for one name.
    """
    folder = ResultFolder(results, data)
    return lambda pair, rainy: (folder.read(pair.rainy, rainy.shape), None)


def score(
    source: Source,
    folder: PairedFolder,
    *,
    model: str,
    model_sha256: str = "",
    protocol: str | Protocol = "y",
    extras: Mapping[str, Metric] = _NO_EXTRAS,
    on_pair: OnPair | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Scores:
    """Score every pair of a set.

    Args:
        source: provides the results: :func:`from_model` or :func:`from_folder`.
        folder: the set.
        model, model_sha256: identify the source in the returned scores.
        protocol: a key of :data:`derain.metrics.PROTOCOLS`, or a protocol. Float results become 8 bits by its
            quantizer before anything is measured or passed on, as if they were saved and read again; with the
            protocol ``float`` they stay as they are.
        extras: additional metrics by name, such as entries of :data:`EXTRA_METRICS`.
        on_pair: receives the images of each scored pair.
        on_step: called after each pair, scored or not.

    Returns:
        The scores. A pair that cannot be read is skipped and listed in ``failures``. Without ground truth,
        only ``extras`` are computed.
    """
    rule = protocol_named(protocol) if isinstance(protocol, str) else protocol
    scores = Scores(model, str(folder.root), rule.name, model_sha256=model_sha256, extras=tuple(extras))
    digest = hashlib.sha256()
    for pair in folder.pairs:
        try:
            rainy, clean = pair.read()
            derained, seconds = source(pair, rainy)
            derained = quantized(derained, rule)
            output, rainy_input, truth = (_batch(image) for image in (derained, rainy, clean))
            extra = {name: metric(_batch(to_float(derained)), truth) for name, metric in extras.items()}
            values = (math.nan, math.nan, math.nan)
            if folder.truth:
                values = (
                    psnr(output, truth, rule).item(),
                    ssim(output, truth, rule).item(),
                    psnr(rainy_input, truth, rule).item(),
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


def quantized(image: UInt8Array | FloatArray, protocol: Protocol) -> UInt8Array | FloatArray:
    """A result in 8 bits by the protocol's quantizer; as it is where the protocol has none."""
    return image if protocol.quantizer is None else to_uint8(image, protocol.quantizer)


def _batch(image: UInt8Array | FloatArray) -> torch.Tensor:
    # A strided view, not a copy: the memory order decides the last bits of sums in published figures.
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]


def ranked(scores: Scores) -> Iterator[tuple[str, ImageScore]]:
    """The worst, median and best image, each with its rank in words; an image is listed once.

    Images are ordered by PSNR, or without ground truth by the first additional metric.
    """
    first = next(iter(scores.extras), None)
    sign = 1 if first in _HIGHER_IS_BETTER else -1
    ordered = sorted(
        scores.images, key=lambda i: i.psnr if first is None or not math.isnan(i.psnr) else sign * i.extra[first]
    )
    seen: set[str] = set()
    for rank, index in (("worst", 0), ("median", len(ordered) // 2), ("best", -1)):
        if ordered and ordered[index].name not in seen:
            seen.add(ordered[index].name)
            yield rank, ordered[index]
