"""BRISQUE: how distorted a picture looks, without a reference.

Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 2012:
36 natural scene statistics at two scales, and a support vector regression with a radial kernel to a score
from 0 (good) to 100. Lower is better.

The original regression was trained on people's opinions (the LIVE database) and is not at hand here.
``derain`` ships its own, fitted by ``scripts/fit_brisque.py`` to synthetic distortions. **Its values are
not those of the published model**: name them ``BRISQUE-derain``, and compare them with each other only. For
published figures, :meth:`BrisqueModel.load` reads the original's file, if you have it.
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

SMALLEST = 32
_FEATURES = 36
_FILE = Path(__file__).parent / "brisque_derain.npz"
_SHIFTS = ((0, 1), (1, 0), (1, 1), (-1, 1))


def brisque_features(picture: Tensor, variant: Variant = "paper") -> npt.NDArray[np.float64]:
    """The 36 statistics of one picture.

    A scale gives shape and variance of the normalized coefficients, then shape, mean, left and right
    variance of their products with the neighbor to the right, below, and on both diagonals.

    Args:
        picture: ``(3, H, W)`` RGB float in [0, 1], at least 32 pixels a side.
        variant: ``paper`` halves with an antialiased cubic filter and joins opposite borders, as the
            authors' MATLAB code does; ``opencv`` halves without antialiasing and has no neighbors
            beyond the border, as OpenCV's quality module does.

    Raises:
        ValueError: another shape, or too small.
    """
    if picture.ndim != 3 or picture.shape[0] != 3 or min(picture.shape[1:]) < SMALLEST:
        raise ValueError(
            f"BRISQUE needs a (3, H, W) picture of at least {SMALLEST} pixels a side, not {tuple(picture.shape)}"
        )
    eight = torch.floor(picture.detach().cpu().clamp(0, 1).double() * 255 + 0.5)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    gray = torch.floor((eight * weights[:, None, None]).sum(0) + 0.5)[None, None]
    found: list[Tensor] = []
    for scale in (1, 2):
        if scale == 2:
            size = [n // 2 for n in gray.shape[2:]]
            gray = F.interpolate(gray, size=size, mode="bicubic", antialias=variant == "paper")
        plane = mscn(gray)[0][0, 0]
        neighbors = [_shifted(plane, dy, dx, around=variant == "paper") for dy, dx in _SHIFTS]
        fits = fit_aggd(torch.stack([plane, *(plane * n for n in neighbors)]).flatten(1))
        shape, left, right = fits
        # The fit gives scales; the statistics are variances.
        narrow = torch.exp(torch.lgamma(3 / shape) - torch.lgamma(1 / shape))
        middle = (right - left) * torch.exp(torch.lgamma(2 / shape) - torch.lgamma(1 / shape))
        left, right = left**2 * narrow, right**2 * narrow
        found.append(torch.stack([shape[0], (left[0] + right[0]) / 2]))
        found.append(torch.stack([shape, middle, left, right], dim=1)[1:].flatten())
    values: npt.NDArray[np.float64] = torch.cat(found).numpy()
    return values


def _shifted(plane: Tensor, dy: int, dx: int, around: bool) -> Tensor:
    """``out[y, x] = plane[y + dy, x + dx]``; beyond the border the other side, or zero."""
    rolled = torch.roll(plane, (-dy, -dx), dims=(0, 1))
    if not around:
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
        low, high: ``(36,)``, the range of each feature that becomes -1 to 1.
        vectors: ``(M, 36)`` support vectors.
        weights: ``(M,)``.
        offset: added to the sum.
        gamma: of the kernel ``exp(-gamma·|x - v|²)``.
        variant: of :func:`brisque_features`.
        name: for tables.
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
        """Features ``(..., 36)`` to where ``low`` is -1 and ``high`` 1."""
        scaled: npt.NDArray[np.float64] = (features - self.low) / (self.high - self.low) * 2 - 1
        return scaled

    def predict(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The regression's values for ``(N, 36)`` features, ``(N,)``, not bounded."""
        return kernel(self.scale(features), self.vectors, self.gamma) @ self.weights + self.offset

    @classmethod
    def load(cls, path: str | Path, range_path: str | Path | None = None) -> BrisqueModel:
        """Read a published model.

        Args:
            path: ``brisque_model_live.yml`` of OpenCV's contributed modules, or ``allmodel`` of the
                authors' release (LIBSVM's text).
            range_path: ``brisque_range_live.yml`` or ``allrange``; by default beside the model, with
                ``range`` for ``model`` in its name.

        Raises:
            InputError: a file is missing or holds no such model.
        """
        path = Path(path)
        ranges = path.with_name(path.name.replace("model", "range")) if range_path is None else Path(range_path)
        for file in (path, ranges):
            if not file.is_file():
                raise InputError(f"{file}: no such file; BRISQUE needs the model and its range file beside it")
        opencv = path.suffix.lower() in (".yml", ".yaml", ".xml")
        try:
            vectors, weights, offset, gamma = (_opencv_model if opencv else _libsvm_model)(path)
            low, high = (_opencv_range if opencv else _libsvm_range)(ranges)
        except (ValueError, KeyError, IndexError, UnicodeDecodeError, cv2.error) as error:
            raise InputError(f"{path}: no BRISQUE model of OpenCV or LIBSVM ({error})") from error
        if vectors.shape != (len(weights), _FEATURES) or low.shape != (_FEATURES,) or not (high > low).all():
            raise InputError(f"{path}: a BRISQUE model has {_FEATURES} features, this one and its range file do not")
        return cls(
            low, high, vectors, weights, offset, gamma, "opencv" if opencv else "paper", f"BRISQUE ({path.name})"
        )


Parts = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float, float]
Range = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _storage(path: Path) -> cv2.FileStorage:
    try:
        return cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except SystemError as error:  # what OpenCV's constructor makes of a file that it cannot parse
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
    # OpenCV lists the weights, and which support vector each belongs to.
    alphas, places = (decision.getNode(name) for name in ("alpha", "index"))
    weights = np.zeros(len(vectors))
    for i in range(alphas.size()):
        weights[int(places.at(i).real()) if places.size() else i] = alphas.at(i).real()
    return vectors, weights, -decision.getNode("rho").real(), kernel_node.getNode("gamma").real()


def _opencv_range(path: Path) -> Range:
    storage = _storage(path)
    matrix = storage.getNode("range").mat()
    if matrix is None or matrix.shape != (2, _FEATURES):
        raise ValueError(f"{path.name} holds no range of {_FEATURES} features")
    return matrix[0].astype(np.float64), matrix[1].astype(np.float64)


def _libsvm_model(path: Path) -> Parts:
    head, _, body = path.read_text(encoding="ascii").partition("\nSV\n")
    facts = dict(line.split(maxsplit=1) for line in head.splitlines() if " " in line)
    if facts["svm_type"] != "epsilon_svr" or facts["kernel_type"] != "rbf":
        raise ValueError("not an epsilon regression with a radial kernel")
    lines = [line.split() for line in body.splitlines() if line.strip()]
    vectors = np.zeros((len(lines), _FEATURES))
    for vector, words in zip(vectors, lines, strict=True):
        for word in words[1:]:
            place, value = word.split(":")
            vector[int(place) - 1] = float(value)
    return vectors, np.array([float(words[0]) for words in lines]), -float(facts["rho"]), float(facts["gamma"])


def _libsvm_range(path: Path) -> Range:
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    if lines[0] != ["x"] or [float(word) for word in lines[1]] != [-1, 1]:
        raise ValueError(f"{path.name} does not scale to -1 and 1")
    bounds = {int(place): (float(low), float(high)) for place, low, high in lines[2:]}
    table = np.array([bounds[i + 1] for i in range(_FEATURES)])
    return table[:, 0], table[:, 1]


def kernel(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], gamma: float) -> npt.NDArray[np.float64]:
    """``exp(-gamma·|a - b|²)`` of all rows of ``(N, K)`` and ``(M, K)``, ``(N, M)``."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    values: npt.NDArray[np.float64] = np.exp(-gamma * np.maximum(squares, 0))
    return values


@lru_cache(maxsize=1)
def shipped_model() -> BrisqueModel:
    """BRISQUE-derain."""
    with np.load(_FILE, allow_pickle=False) as file:
        parts = {name: file[name].astype(np.float64) for name in ("low", "high", "vectors", "weights")}
        offset, gamma = float(file["offset"]), float(file["gamma"])
    return BrisqueModel(**parts, offset=offset, gamma=gamma, variant="paper", name="BRISQUE-derain")


def brisque(picture: Tensor, model: BrisqueModel | None = None) -> float:
    """BRISQUE of one picture, 0 to 100; lower is better.

    Args:
        picture: ``(3, H, W)`` RGB float in [0, 1], at least 32 pixels a side.
        model: from :meth:`BrisqueModel.load`; by default BRISQUE-derain.

    Raises:
        ValueError: another shape, or too small.
    """
    chosen = shipped_model() if model is None else model
    value = chosen.predict(brisque_features(picture, chosen.variant)[None])[0]
    return float(np.clip(value, 0, 100))
