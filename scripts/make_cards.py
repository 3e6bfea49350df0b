"""Write docs/models.md: each shipped weight's card, with a sheet of what it does to dry photographs and to heavy rain.

python scripts/make_cards.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image

from derain import Derainer
from derain.cli.models import model_card
from derain.rain import apply_rain, sample_rain
from derain.weights.store import manifest

DOCS = Path(__file__).parents[1] / "docs"
SIDE = 320
HEAD = """# Models

Made by `python scripts/make_cards.py`; `derain models --card NAME` prints the same.
"""
SHEET = """![photographs, what the model makes of them, four times the difference to the dry ones](images/{file})

*scikit-image's `brick`, `camera` and `coffee`, dry, and `chelsea` in heavy rain | through `{name}` | difference to the
dry photograph ×4.*"""


def main() -> None:
    """Write the page and the sheets."""
    parts = [HEAD]
    for name in manifest().weights:
        file = f"card-{name}.jpg"
        Image.fromarray(sheet(Derainer(name))).save(DOCS / "images" / file, quality=88)
        parts += [model_card(name).replace("# ", "## "), SHEET.format(file=file, name=name)]
    (DOCS / "models.md").write_text("\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n", encoding="utf-8")


def sheet(derainer: Derainer) -> npt.NDArray[np.uint8]:
    """Rows of given | derained | difference to the dry photograph."""
    rows = []
    for name, top, left, preset in (
        ("brick", 0, 0, None),
        ("camera", 100, 150, None),
        ("coffee", 0, 0, None),
        ("chelsea", 0, 60, "heavy"),
    ):
        simulate_camera = np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))
        dry = simulate_camera[top : top + SIDE, left : left + SIDE]
        given = dry if preset is None else _rained_on(dry, preset)
        derained = derainer(given)
        difference = np.clip(128 + 4 * (derained.astype(int) - dry), 0, 255).astype(np.uint8)
        rows.append(np.concatenate([given, derained, difference], 1))
    return np.concatenate(rows)


def _rained_on(simulate_camera: npt.NDArray[np.uint8], preset: str) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(1)
    rainy = apply_rain(simulate_camera.astype(np.float32) / 255, sample_rain(preset, rng), rng)
    return np.rint(rainy * 255).astype(np.uint8)


if __name__ == "__main__":
    main()
