"""Write docs/models.md: each shipped weight's card, with a sheet of photographs that it should not have touched.

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
from derain.weights.store import manifest

DOCS = Path(__file__).parents[1] / "docs"
SIDE = 320
HEAD = """# Models

Made by `python scripts/make_cards.py`; `derain models --card NAME` prints the same.
"""
SHEET = """![dry photographs, what the model makes of them, the difference four times as strong](images/{file})

*scikit-image's `brick`, `coffee` and `astronaut`, dry | through `{name}` | difference ×4.*"""


def main() -> None:
    """Write the page and the sheets."""
    parts = [HEAD]
    for name in manifest().weights:
        file = f"card-{name}.jpg"
        Image.fromarray(sheet(Derainer(name))).save(DOCS / "images" / file, quality=88)
        parts += [model_card(name).replace("# ", "## "), SHEET.format(file=file, name=name)]
    (DOCS / "models.md").write_text("\n\n".join(parts).replace("\n\n\n", "\n\n") + "\n", encoding="utf-8")


def sheet(derainer: Derainer) -> npt.NDArray[np.uint8]:
    """Rows of dry | derained | difference."""
    rows = []
    for name in ("brick", "coffee", "astronaut"):
        picture = np.asarray(Image.fromarray(getattr(skimage.data, name)()).convert("RGB"))[:SIDE, :SIDE]
        derained = derainer(picture)
        difference = np.clip(128 + 4 * (derained.astype(int) - picture), 0, 255).astype(np.uint8)
        rows.append(np.concatenate([picture, derained, difference], 1))
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
