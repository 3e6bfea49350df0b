"""A BRISQUE model in LIBSVM's format, small enough to compute by hand."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def libsvm(folder: Path, model: str = "epsilon_svr", spans: str = "-1 1") -> Path:
    """Two support vectors of one feature each, gamma 0.5, rho -30."""
    head = f"svm_type {model}\nkernel_type rbf\ngamma 0.5\nnr_class 2\ntotal_sv 2\nrho -30\nprobA 1.5\nSV\n"
    (folder / "allmodel").write_text(head + "7 1:1 \n-4 36:-1 \n")
    (folder / "allrange").write_text(f"x\n{spans}\n" + "".join(f"{i} 0 {i}\n" for i in range(1, 37)))
    return folder / "allmodel"


def installed_package(site: Path, ranges: Any = None) -> Path:
    """The files of the Python package ``brisque`` that matter, in a folder of packages; its ``svm.txt``.

    Importing this package fails: its own imports are heavy, and nothing of it may run.
    """
    models = site / "brisque" / "models"
    models.mkdir(parents=True)
    (site / "brisque" / "__init__.py").write_text("raise ImportError\n")
    libsvm(models).rename(models / "svm.txt")
    (models / "allrange").unlink()
    if ranges is None:
        ranges = {"min_": [0.0] * 36, "max_": [float(i) for i in range(1, 37)]}
    (models / "normalize.pickle").write_bytes(ranges if isinstance(ranges, bytes) else pickle.dumps(ranges))
    return models / "svm.txt"
