"""Make ``examples/``: rain on photographs that scikit-image ships, by ``derain synth``.

    python scripts/make_examples.py

The pairs are PNG; the examples are saved as JPEG, small and like what a camera gives.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
# picture of skimage.data, preset, seed, size of the streaks
CHOICES = [("rocket", "light", 13, 1.3), ("chelsea", "light", 52, 1.0), ("astronaut", "heavy", 3, 1.2)]


def main() -> None:
    EXAMPLES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, preset, seed, scale in CHOICES:
            clean = Path(folder) / f"{name}.png"
            Image.fromarray(getattr(skimage.data, name)()).save(clean)
            words = ["synth", clean, "-o", Path(folder) / name, "--preset", preset, "--seed", seed, "--scale", scale]
            subprocess.run([sys.executable, "-m", "derain", *map(str, words), "-q"], check=True)
            rainy = Image.open(Path(folder) / name / "input" / f"{name}.png")
            rainy.save(EXAMPLES / f"{name}.jpg", quality=92, subsampling=0)


if __name__ == "__main__":
    main()
