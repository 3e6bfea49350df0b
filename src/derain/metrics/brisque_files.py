"""The files of published BRISQUE models: OpenCV's YAML, LIBSVM's text, and ranges as text or as a pickle."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

FEATURES = 36
#: Larger files are no range of 36 features.
_MAX_RANGE_BYTES = 100_000
PICKLES = (".pickle", ".pkl")

#: Support vectors ``(M, 36)``, weights ``(M,)``, offset and gamma.
Parts = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float, float]
#: Low and high ``(36,)``.
Range = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def range_beside(model: Path) -> Path:
    """The range file next to a model's."""
    named = model.with_name(model.name.replace("model", "range"))
    pickled = model.with_name("normalize.pickle")
    return pickled if pickled.is_file() and (named == model or not named.is_file()) else named


def _storage(path: Path) -> cv2.FileStorage:
    try:
        return cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ)
    except SystemError as error:  # raised by OpenCV's constructor for files that it cannot parse
        raise ValueError(f"{path.name} is not OpenCV's YAML") from error


def opencv_model(path: Path) -> Parts:
    """Support vectors, weights, offset and gamma of OpenCV's YAML. All readers raise ``ValueError`` for other files."""
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


def opencv_range(path: Path) -> Range:
    """The lowest and highest value of each feature, of OpenCV's YAML."""
    storage = _storage(path)
    matrix = storage.getNode("range").mat()
    if matrix is None or matrix.shape != (2, FEATURES):
        raise ValueError(f"{path.name} contains no range of {FEATURES} features")
    return matrix[0].astype(np.float64), matrix[1].astype(np.float64)


def libsvm_model(path: Path) -> Parts:
    """Support vectors, weights, offset and gamma of a text file of LIBSVM."""
    head, _, body = path.read_text(encoding="ascii").partition("\nSV\n")
    header = dict(line.split(maxsplit=1) for line in head.splitlines() if " " in line)
    if header["svm_type"] != "epsilon_svr" or header["kernel_type"] != "rbf":
        raise ValueError("not an epsilon regression with a radial kernel")
    lines = [line.split() for line in body.splitlines() if line.strip()]
    vectors = np.zeros((len(lines), FEATURES))
    for vector, words in zip(vectors, lines, strict=True):
        for word in words[1:]:
            index, value = word.split(":")
            vector[int(index) - 1] = float(value)
    return vectors, np.array([float(words[0]) for words in lines]), -float(header["rho"]), float(header["gamma"])


def libsvm_range(path: Path) -> Range:
    """The lowest and highest value of each feature, of a text file that LIBSVM's ``svm-scale`` wrote."""
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    if lines[0] != ["x"] or [float(word) for word in lines[1]] != [-1, 1]:
        raise ValueError(f"{path.name} does not scale to -1 and 1")
    bounds = {int(index): (float(low), float(high)) for index, low, high in lines[2:]}
    table = np.array([bounds[i + 1] for i in range(FEATURES)])
    return table[:, 0], table[:, 1]


class _NumbersOnly(pickle.Unpickler):
    """Reads pickles of plain containers and numbers; whatever names a class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"it holds {module}.{name}, not plain numbers, and is not loaded")

    def persistent_load(self, _id: Any) -> Any:
        raise ValueError("it refers to objects elsewhere, and is not loaded")


def pickled_range(path: Path) -> Range:
    """The range of the package ``brisque``: a dictionary of two lists, ``min_`` and ``max_``."""
    if path.stat().st_size > _MAX_RANGE_BYTES:
        raise ValueError(f"{path.name} is too large for a range of {FEATURES} features")
    with path.open("rb") as file:
        try:
            content = _NumbersOnly(file).load()
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
        except Exception as error:  # a damaged pickle raises almost anything
            raise ValueError(f"{path.name} is not a readable pickle ({type(error).__name__})") from None
    if not isinstance(content, Mapping) or not {"min_", "max_"} <= content.keys():
        raise ValueError(f"{path.name} contains no min_ and max_")
    try:
        low, high = (np.array([float(value) for value in content[key]], np.float64) for key in ("min_", "max_"))
    except TypeError:
        raise ValueError(f"{path.name}: min_ and max_ are not lists of numbers") from None
    return low, high
