"""BRISQUE: how distorted an image looks, without a reference.

Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 2012:
36 natural scene statistics at two scales, and a support vector regression with a radial kernel to a score
from 0 (good) to 100. Lower is better.

The original regression was trained on people's opinions (the LIVE database) and is not available here.
``derain`` includes its own, fitted by ``scripts/fit_brisque.py`` to synthetic distortions. **Its values are
not those of the published model**: report them as ``BRISQUE-derain``, and compare them only with each other.
For published figures, :meth:`BrisqueModel.load` reads the file of the original model, if you have it.
"""

from __future__ import annotations

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

from .no_reference import fit_aggd, mscn

Variant = Literal["paper", "opencv"]

MIN_SIDE = 32
_FEATURES = 36
_FILE = Path(__file__).parent / "brisque_derain.npz"
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))


def brisque_features(image: Tensor, variant: Variant = "paper") -> npt.NDArray[np.float64]:
    """The 36 statistics of one image.

    Each scale gives shape and variance of the normalized coefficients, then shape, mean, left and right
    variance of their products with the neighbor to the right, below, and on both diagonals.

    Args:
        image: ``(3, H, W)`` RGB float in [0, 1], at least 32 pixels per side.
        variant: ``paper`` downsamples with an antialiased cubic filter and wraps around at the borders, as the
            authors' MATLAB code does; ``opencv`` downsamples without antialiasing and pads with zeros,
            as OpenCV's quality module does.

    Raises:
        ValueError: another shape, or too small.
    """
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < MIN_SIDE:
        raise ValueError(
            f"BRISQUE needs a (3, H, W) image of at least {MIN_SIDE} pixels per side, not {tuple(image.shape)}"
        )
    rounded = torch.floor(image.detach().cpu().clamp(0, 1).double() * 255 + 0.5)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    gray = torch.floor((rounded * weights[:, None, None]).sum(0) + 0.5)[None, None]
    features: list[Tensor] = []
    for scale in (1, 2):
        if scale == 2:
            size = [n // 2 for n in gray.shape[2:]]
            gray = F.interpolate(gray, size=size, mode="bicubic", antialias=variant == "paper")
        plane = mscn(gray)[0][0, 0]
        neighbors = [_shifted(plane, dy, dx, wrap=variant == "paper") for dy, dx in _SHIFTS]
        fits = fit_aggd(torch.stack([plane, *(plane * n for n in neighbors)]).flatten(1))
        shape, left, right = fits
        # The fit gives scales; the statistics are variances.
        variance_ratio = torch.exp(torch.lgamma(3 / shape) - torch.lgamma(1 / shape))
        mean = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
        left, right = left**2 * variance_ratio, right**2 * variance_ratio
        features.append(torch.stack([shape[0], (left[0] + right[0]) / 2]))
        features.append(torch.stack([shape, mean, left, right], dim=1)[1:].flatten())
    values: npt.NDArray[np.float64] = torch.cat(features).numpy()
    return values


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
            path: ``brisque_model_live.yml`` of OpenCV's contributed modules, or ``allmodel`` of the
                authors' release (LIBSVM text format).
            range_path: ``brisque_range_live.yml`` or ``allrange``; by default next to the model, with
                ``range`` instead of ``model`` in its name.

        Raises:
            InputError: a file is missing or is not such a model.
        """
        path = Path(path)
        ranges = path.with_name(path.name.replace("model", "range")) if range_path is None else Path(range_path)
        for file in (path, ranges):
            if not file.is_file():
                raise InputError(f"{file}: no such file; BRISQUE needs the model and its range file next to it")
        opencv = path.suffix.lower() in (".yml", ".yaml", ".xml")
        try:
            vectors, weights, offset, gamma = (_opencv_model if opencv else _libsvm_model)(path)
            low, high = (_opencv_range if opencv else _libsvm_range)(ranges)
        except (ValueError, KeyError, IndexError, UnicodeDecodeError, cv2.error) as error:
            raise InputError(f"{path}: not a BRISQUE model of OpenCV or LIBSVM ({error})") from error
        if vectors.shape != (len(weights), _FEATURES) or low.shape != (_FEATURES,) or not (high > low).all():
            raise InputError(f"{path}: the model and its range file must have {_FEATURES} features each")
        return cls(
            low, high, vectors, weights, offset, gamma, "opencv" if opencv else "paper", f"BRISQUE ({path.name})"
        )


Parts = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float, float]
Range = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _storage(path: Path) -> cv2.FileStorage:
    try:
        return cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except SystemError as error:  # raised by OpenCV's constructor for files that it cannot parse
        raise ValueError(f"{path.name} is not OpenCV's YAML") from error


def _opencv_model(path: Path) -> Parts:
    # The storage must outlive its nodes.
    storage = _storage(path)
    node = storage.getNode("opencv_ml_svm")
    if node.empty() or node.getNode("svmType").string() != "EPS_SVR":
        raise ValueError("not an epsilon regression")
    kernel_node, rows = node.getNode("kernel"), node.getNode("support_vectors")
    if kernel_node.getNode("type").string() != "RBF":
        raise ValueError("not a radial kernel")
    vectors = np.array([[row.at(j).real() for j in range(row.size())] for row in map(rows.at, range(rows.size()))])
    decision = node.getNode("decision_functions").at(0)
    # OpenCV lists the weights and the index of the support vector of each.
    alphas, indices = (decision.getNode(name) for name in ("alpha", "index"))
    weights = np.zeros(len(vectors))
    for i in range(alphas.size()):
        weights[int(indices.at(i).real()) if indices.size() else i] = alphas.at(i).real()
    return vectors, weights, -decision.getNode("rho").real(), kernel_node.getNode("gamma").real()


def _opencv_range(path: Path) -> Range:
    storage = _storage(path)
    matrix = storage.getNode("range").mat()
    if matrix is None or matrix.shape != (2, _FEATURES):
        raise ValueError(f"{path.name} contains no range of {_FEATURES} features")
    return matrix[0].astype(np.float64), matrix[1].astype(np.float64)


def _libsvm_model(path: Path) -> Parts:
    head, _, body = path.read_text(encoding="ascii").partition("\nSV\n")
    header = dict(line.split(maxsplit=1) for line in head.splitlines() if " " in line)
    if header["svm_type"] != "epsilon_svr" or header["kernel_type"] != "rbf":
        raise ValueError("not an epsilon regression with a radial kernel")
    lines = [line.split() for line in body.splitlines() if line.strip()]
    vectors = np.zeros((len(lines), _FEATURES))
    for vector, words in zip(vectors, lines, strict=True):
        for word in words[1:]:
            index, value = word.split(":")
            vector[int(index) - 1] = float(value)
    return vectors, np.array([float(words[0]) for words in lines]), -float(header["rho"]), float(header["gamma"])


def _libsvm_range(path: Path) -> Range:
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    if lines[0] != ["x"] or [float(word) for word in lines[1]] != [-1, 1]:
        raise ValueError(f"{path.name} does not scale to -1 and 1")
    bounds = {int(index): (float(low), float(high)) for index, low, high in lines[2:]}
    table = np.array([bounds[i + 1] for i in range(_FEATURES)])
    return table[:, 0], table[:, 1]


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
