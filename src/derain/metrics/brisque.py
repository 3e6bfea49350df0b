"""BRISQUE: how distorted an image looks, without a reference.

Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 2012:
36 natural scene statistics at two scales, and a support vector regression with a radial kernel to a score
from 0 (good) to 100. Lower is better.

The original regression was trained on people's opinions (the LIVE database) and is not available here.
``derain`` includes its own, fitted by ``scripts/fit_brisque.py`` to synthetic distortions. **Its values are
not those of the published model**: report them as ``BRISQUE-derain``, and compare them only with each other.
For published figures, :meth:`BrisqueModel.load` reads the file of the original model, if you have it, and
:meth:`BrisqueModel.installed` that of the Python package ``brisque``.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from derain.errors import InputError

from .brisque_files import (
    FEATURES,
    PICKLES,
    libsvm_model,
    libsvm_range,
    opencv_model,
    opencv_range,
    pickled_range,
    range_beside,
)
from .no_reference import fit_aggd, mscn

Variant = Literal["paper", "opencv", "package"]

MIN_SIDE = 32
_FILE = Path(__file__).parent / "brisque_derain.npz"
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))
_JPEG_LUMA = (0.299, 0.587, 0.114)
_LINEAR_LUMA = (0.2125, 0.7154, 0.0721)  # ITU-R BT.709's, as scikit-image's rgb2gray has them


def brisque_features(image: Tensor, variant: Variant = "paper") -> npt.NDArray[np.float64]:
    """The 36 statistics of one image.

    Each scale gives shape and variance of the normalized coefficients, then shape, mean, left and right
    variance of their products with the neighbor to the right, below, and on both diagonals.

    Args:
        image: ``(3, H, W)`` RGB float in [0, 1], at least 32 pixels per side.
        variant: ``paper`` downsamples with an antialiased cubic filter and wraps around at the borders, as the
            authors' MATLAB code does; ``opencv`` downsamples without antialiasing and pads with zeros,
            as OpenCV's quality module does; ``package`` is the Python package ``brisque``: BT.709's weights for
            gray, which is not rounded, zeros around the image, and products of existing neighbors only.

    Raises:
        ValueError: another shape, or too small.
    """
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < MIN_SIDE:
        raise ValueError(
            f"BRISQUE needs a (3, H, W) image of at least {MIN_SIDE} pixels per side, not {tuple(image.shape)}"
        )
    rounded = torch.floor(image.detach().cpu().clamp(0, 1).double() * 255 + 0.5)
    package = variant == "package"
    weights = torch.tensor(_LINEAR_LUMA if package else _JPEG_LUMA, dtype=torch.float64)
    gray = (rounded * weights[:, None, None]).sum(0)[None, None]
    if not package:
        gray = torch.floor(gray + 0.5)
    features: list[Tensor] = []
    for scale in (1, 2):
        if scale == 2:
            gray = _halved(gray, variant)
        plane = mscn(gray, "constant" if package else "replicate")[0][0, 0]
        if package:
            rows = [plane, *(_product_within(plane, dy, dx) for dy, dx in _SHIFTS)]
            shape, left, right = (
                torch.cat(fits) for fits in zip(*(fit_aggd(r.reshape(1, -1)) for r in rows), strict=True)
            )
        else:
            neighbors = [_shifted(plane, dy, dx, wrap=variant == "paper") for dy, dx in _SHIFTS]
            shape, left, right = fit_aggd(torch.stack([plane, *(plane * n for n in neighbors)]).flatten(1))
        # The fit gives scales; the statistics are variances.
        variance_ratio = torch.exp(torch.lgamma(3 / shape) - torch.lgamma(1 / shape))
        mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
        left, right = left**2 * variance_ratio, right**2 * variance_ratio
        features.append(torch.stack([shape[0], (left[0] + right[0]) / 2]))
        features.append(torch.stack([shape, mean, left, right], dim=1)[1:].flatten())
    values: npt.NDArray[np.float64] = torch.cat(features).numpy()
    return values


def _halved(gray: Tensor, variant: Variant) -> Tensor:
    """``(1, 1, H, W)`` at half the size, by cubic interpolation."""
    if variant == "package":  # OpenCV's, which keeps a scale of 2 for odd sizes
        half = cv2.resize(gray[0, 0].numpy(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
        return torch.from_numpy(half)[None, None]
    size = [n // 2 for n in gray.shape[2:]]
    return F.interpolate(gray, size=size, mode="bicubic", antialias=variant == "paper")


def _product_within(plane: Tensor, dy: int, dx: int) -> Tensor:
    """``plane[y, x] * plane[y + dy, x + dx]`` where both exist."""
    height, width = plane.shape
    upper, lower = plane[max(-dy, 0) : height - max(dy, 0)], plane[max(dy, 0) : height + min(dy, 0)]
    return upper[:, : width - dx] * lower[:, dx:]


def _shifted(plane: Tensor, dy: int, dx: int, wrap: bool) -> Tensor:
    """``out[y, x] = plane[y + dy, x + dx]``; beyond the border wrapped around, or zero."""
    rolled = torch.roll(plane, (-dy, -dx), dims=(0, 1))
    if not wrap:
        rolled = rolled.clone()
        if dy:
            rolled[-1 if dy > 0 else 0] = 0
        if dx:
            rolled[:, -1] = 0
    return rolled


@dataclass(frozen=True)
class BrisqueModel:
    """A radial-kernel regression on scaled features.

    Attributes:
        low, high: ``(36,)``, the range of each feature that is scaled to [-1, 1].
        vectors: ``(M, 36)`` support vectors.
        weights: ``(M,)``.
        offset: added to the sum.
        gamma: of the kernel ``exp(-gamma·|x - v|²)``.
        variant: of :func:`brisque_features`.
        name: for reports.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    vectors: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    offset: float
    gamma: float
    variant: Variant
    name: str

    def scale(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Scale features ``(..., 36)`` so that ``low`` is -1 and ``high`` 1."""
        scaled: npt.NDArray[np.float64] = (features - self.low) / (self.high - self.low) * 2 - 1
        return scaled

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The regression's values for ``(N, 36)`` features, ``(N,)``, not clamped."""
        return kernel(self.scale(features), self.vectors, self.gamma) @ self.weights + self.offset

    @classmethod
    def load(cls, path: str | Path, range_path: str | Path | None = None) -> BrisqueModel:
        """Read a published model.

        Args:
            path: ``brisque_model_live.yml`` of OpenCV's contributed modules, ``allmodel`` of the authors'
                release, or ``svm.txt`` of the package ``brisque`` (both LIBSVM text).
            range_path: ``brisque_range_live.yml``, ``allrange`` or ``normalize.pickle``; by default next to the
                model, with ``range`` instead of ``model`` in its name, or ``normalize.pickle``. It also decides
                the features' variant. A pickle is read without running anything in it: it may hold numbers in
                lists and dictionaries, and nothing else.

        Raises:
            InputError: a file is missing or is not such a model.
        """
        path = Path(path)
        ranges = range_beside(path) if range_path is None else Path(range_path)
        for file in (path, ranges):
            if not file.is_file():
                raise InputError(f"{file}: no such file; BRISQUE needs the model and its range file next to it")
        variant: Variant = "package" if ranges.suffix.lower() in PICKLES else "paper"
        if path.suffix.lower() in (".yml", ".yaml", ".xml"):
            variant = "opencv"
        read_range = {"opencv": opencv_range, "paper": libsvm_range, "package": pickled_range}[variant]
        try:
            vectors, weights, offset, gamma = (opencv_model if variant == "opencv" else libsvm_model)(path)
            low, high = read_range(ranges)
        except (ValueError, KeyError, IndexError, UnicodeDecodeError, cv2.error) as error:
            raise InputError(f"{path}: not a BRISQUE model of OpenCV or LIBSVM ({error})") from error
        if vectors.shape != (len(weights), FEATURES) or low.shape != (FEATURES,) or not (high > low).all():
            raise InputError(f"{path}: the model and its range file must have {FEATURES} features each")
        return cls(low, high, vectors, weights, offset, gamma, variant, f"BRISQUE ({path.name})")

    @staticmethod
    def installed() -> Path:
        """The model file of the installed Python package ``brisque``, for :meth:`load`; nothing is imported.

        Raises:
            InputError: it is not installed, or without its model.
        """
        found = importlib.util.find_spec("brisque")
        for folder in (found and found.submodule_search_locations) or ():
            path = Path(folder) / "models" / "svm.txt"
            if path.is_file():
                return path
        raise InputError("the package brisque is not installed here: pip install --no-deps brisque, or give a file")


def kernel(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], gamma: float) -> npt.NDArray[np.float64]:
    """``exp(-gamma·|a - b|²)`` of all rows of ``(N, K)`` and ``(M, K)``, ``(N, M)``."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    values: npt.NDArray[np.float64] = np.exp(-gamma * np.maximum(squares, 0))
    return values


@lru_cache(maxsize=1)
def bundled_model() -> BrisqueModel:
    """BRISQUE-derain."""
    with np.load(_FILE, allow_pickle=False) as file:
        parts = {name: file[name].astype(np.float64) for name in ("low", "high", "vectors", "weights")}
        offset, gamma = float(file["offset"]), float(file["gamma"])
    return BrisqueModel(**parts, offset=offset, gamma=gamma, variant="paper", name="BRISQUE-derain")


def brisque(image: Tensor, model: BrisqueModel | None = None) -> float:
    """BRISQUE of one image, 0 to 100; lower is better.

    Args:
        image: ``(3, H, W)`` RGB float in [0, 1], at least 32 pixels per side.
        model: from :meth:`BrisqueModel.load`; by default BRISQUE-derain.

    Raises:
        ValueError: another shape, or too small.
    """
    regression = bundled_model() if model is None else model
    value = regression.predict(brisque_features(image, regression.variant)[None])[0]
    return float(np.clip(value, 0, 100))
