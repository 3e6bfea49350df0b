"""A small labeled split whose images show each class in a color of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]], np.uint8)


def write_split(split: Path, labels: dict[str, np.ndarray]) -> Path:
    """A split whose images show each class in a color of its own; void is gray."""
    for name, classes in labels.items():
        image = np.full((*classes.shape, 3), 128, np.uint8)
        image[classes < 3] = COLORS[classes[classes < 3]]
        for folder, content in (("images", image), ("labels", classes.astype(np.uint8))):
            (split / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(split / folder / f"{name}.png")
    return split


def blocks(seed: int, height: int = 6, width: int = 8, side: int = 12) -> np.ndarray:
    classes = np.random.default_rng(seed).choice([0, 1, 2, 11], (height, width), p=[0.5, 0.2, 0.2, 0.1])
    return classes.repeat(side, 0).repeat(side, 1)
