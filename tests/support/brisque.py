"""A BRISQUE model in LIBSVM's format, small enough to compute by hand."""

from __future__ import annotations

from pathlib import Path

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
