"""Make ``examples/``, the README's image and that of the rain presets, from photographs that scikit-image ships.

    python scripts/make_examples.py

The rain is that of ``derain synth``. Its pairs are PNG; the examples are saved as JPEG, which is smaller and
what cameras write. The README's image shows them above the outputs of the default model.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from derain import Derainer
from derain.arrays import to_float, to_uint8
from derain.rain import apply_rain, sample_rain

ROOT = Path(__file__).parent.parent
# image of skimage.data, preset, seed, scale of the streaks
CHOICES = [("rocket", "light", 13, 1.3), ("chelsea", "light", 52, 1.0), ("astronaut", "heavy", 3, 1.2)]
HEIGHT = 360  # of one image in the README
# preset and seed in the image of the presets, row by row
PRESETS = [
    [("light", 2), ("light", 3), ("noise", 3), ("heavy", 3), ("heavy", 1)],
    [("real", 3), ("real", 5), ("real", 11), ("real", 16), ("real", 18)],
]


def make_examples(folder: Path) -> None:
    for name, preset, seed, scale in CHOICES:
        clean = folder / f"{name}.png"
        Image.fromarray(getattr(skimage.data, name)()).save(clean)
        arguments = ["synth", clean, "-o", folder / name, "--preset", preset, "--seed", seed, "--scale", scale]
        subprocess.run([sys.executable, "-m", "derain", *map(str, arguments), "-q"], check=True)
        rainy = Image.open(folder / name / "input" / f"{name}.png")
        rainy.save(ROOT / "examples" / f"{name}.jpg", quality=92, subsampling=0)


def make_before_after() -> None:
    derainer = Derainer(precision="fp32")
    columns = []
    for name, *_ in CHOICES:
        rainy = Image.open(ROOT / "examples" / f"{name}.jpg")
        size = (round(rainy.width * HEIGHT / rainy.height), HEIGHT)
        columns.append([image.resize(size, Image.Resampling.LANCZOS) for image in (rainy, derainer(rainy))])
    gap = 6
    width = sum(above.width for above, _ in columns) + gap * (len(columns) - 1)
    sheet = Image.new("RGB", (width, 2 * HEIGHT + gap), "white")
    x = 0
    for above, below in columns:
        sheet.paste(above, (x, 0))
        sheet.paste(below, (x, HEIGHT + gap))
        x += above.width + gap
    (ROOT / "docs" / "images").mkdir(exist_ok=True)
    sheet.save(ROOT / "docs" / "images" / "before-after.jpg", quality=90)


def make_presets() -> None:
    scene = to_float(skimage.data.coffee()[60:316, 120:376])
    rows = []
    for row in PRESETS:
        panels = []
        for preset, seed in row:
            rng = np.random.default_rng(seed)
            panels.append(to_uint8(apply_rain(scene, sample_rain(preset, rng), rng)))
        rows.append(np.hstack(panels))
    Image.fromarray(np.vstack(rows)).save(ROOT / "docs" / "images" / "rain-presets.jpg", quality=88)


def main() -> None:
    (ROOT / "examples").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        make_examples(Path(folder))
    make_before_after()
    make_presets()


if __name__ == "__main__":
    main()
