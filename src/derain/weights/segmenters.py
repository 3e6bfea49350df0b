"""Pretrained segmenters, from files that ``derain train`` wrote."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from derain.errors import ModelError
from derain.segmentation import SEGMENTERS, create_segmenter

from .store import SEGMENTER, read_weights


@dataclass(frozen=True)
class TrainedSegmenter:
    """A segmenter on the CPU, in ``eval`` mode, and the names of its classes."""

    network: nn.Module
    classes: tuple[str, ...]


def load_segmenter(path: Path) -> TrainedSegmenter:
    """The segmenter of a checkpoint that ``derain train`` wrote.

    Raises:
        ModelError: missing, damaged, not a segmenter, or weights that do not fit.
    """
    header, tensors = read_weights(path)
    if header.get("kind") != SEGMENTER or header.get("model") not in SEGMENTERS:
        raise ModelError(f"{path}: not a segmenter; train one with: derain train camvid-segmenter --data DIR")
    network = create_segmenter(header["model"], **json.loads(header["settings"]))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ModelError(f"{path}: its weights do not fit {header['model']} ({first})") from None
    return TrainedSegmenter(network.eval(), tuple(json.loads(header["classes"])))
