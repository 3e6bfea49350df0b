"""Pretrained segmenters, from files that ``derain train`` wrote, and PSPNet-101 from its authors' files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from derain.errors import ModelError
from derain.segmentation import SEGMENTERS, create_segmenter
from derain.segmentation.cityscapes import CITYSCAPES

from .official import read_checkpoint
from .store import SEGMENTER, read_weights


@dataclass(frozen=True)
class TrainedSegmenter:
    """A segmenter on the CPU, in ``eval`` mode, and the names of its classes."""

    network: nn.Module
    classes: tuple[str, ...]


def load_segmenter(path: Path) -> TrainedSegmenter:
    """The segmenter of a checkpoint.

    Args:
        path: a safetensors file that ``derain train`` wrote, or a PyTorch file of PSPNet-101 as hszhao/semseg
            (``train_epoch_200.pth``) and SGINet (``pspnet_best.pt``) publish it. Its 19 classes are Cityscapes'.

    Raises:
        ModelError: missing, damaged, not a segmenter, or weights that do not fit.
    """
    if path.suffix.lower() != ".safetensors":
        return _load_pspnet(path)
    header, tensors = read_weights(path)
    if header.get("kind") != SEGMENTER or header.get("model") not in SEGMENTERS:
        raise ModelError(f"{path}: not a segmenter; train one with: derain train camvid-segmenter --data DIR")
    network = create_segmenter(header["model"], **json.loads(header["settings"]))
    _load_state(network, tensors, path, header["model"])
    return TrainedSegmenter(network.eval(), tuple(json.loads(header["classes"])))


def _load_pspnet(path: Path) -> TrainedSegmenter:
    from derain.segmentation.pspnet import PSPNet

    state = read_checkpoint(path)
    count = PSPNet.public_classes(state)
    if count is None:
        raise ModelError(f"{path}: not a PSPNet of hszhao/semseg or SGINet; give one, or a segmenter of derain train")
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    with torch.device("meta"):  # its random initialization would take longer than all else
        network = create_segmenter("pspnet101", count)
    _load_state(network, PSPNet.rename_public(state), path, "PSPNet-101", assign=True)
    names = tuple(CITYSCAPES) if count == len(CITYSCAPES) else tuple(f"class {number}" for number in range(count))
    return TrainedSegmenter(network.eval(), names)


def _load_state(network: nn.Module, state: dict[str, Tensor], path: Path, name: str, *, assign: bool = False) -> None:
    try:
        network.load_state_dict(state, assign=assign)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        reason = first if len(first) <= 200 else f"{first[:200]}…"
        raise ModelError(f"{path}: its weights do not fit {name} ({reason})") from None
