"""The package as a whole: public names, a cheap import, the import contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import derain

PUBLIC = [
    "DerainError",
    "Derainer",
    "Picture",
    "__version__",
    "create_model",
    "list_models",
    "load_model",
    "losses",
    "metrics",
    "rain",
    "rain2avoid",
]


def test_no_public_name_vanishes():
    assert sorted(derain.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(derain))
    for name in PUBLIC:
        assert getattr(derain, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'rainbow'"):
        derain.rainbow  # noqa: B018


def test_importing_derain_imports_nothing_heavy():
    code = "import sys, derain; print(sorted({'torch', 'cv2', 'numpy', 'PIL', 'typer'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_imports_go_down_a_floor():
    run = pytest.importorskip("importlinter.cli")
    root = Path(__file__).parent.parent
    assert run.lint_imports(config_filename=str(root / "pyproject.toml"), no_cache=True) == 0
