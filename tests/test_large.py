"""A 24-megapixel photograph stays within 3 GB of process memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

_MEASURE = """
import resource, sys
from derain.cli.main import main
sys.argv = ["derain", "run", sys.argv[1], "-o", sys.argv[2], "-q"]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts kilobytes on Linux only")
def test_a_24_megapixel_photograph_stays_within_3_gb(tmp_path: Path):
    photo = Image.fromarray(skimage.data.astronaut()).resize((6000, 4000))
    photo.save(tmp_path / "big.jpg", quality=90)
    words = [sys.executable, "-c", _MEASURE, str(tmp_path / "big.jpg"), str(tmp_path / "out.jpg")]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) * 1024 < 3e9
    out = Image.open(tmp_path / "out.jpg")
    assert out.size == (6000, 4000)
    # No seams: rows and columns where tiles meet change no more than others.
    difference = np.asarray(out.convert("L")).astype(np.float32) - np.asarray(photo.convert("L"))
    for axis in (0, 1):
        steps = np.abs(np.diff(difference.mean(axis=1 - axis)))
        assert steps.max() < 8 * np.median(steps) + 0.5
