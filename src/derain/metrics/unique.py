"""UNIQUE: learned image quality without a reference (Zhang et al., Uncertainty-Aware Blind Image Quality Assessment
in the Laboratory and Wild, IEEE TIP 2021, arXiv 2005.13983).

A ResNet-34 whose last features are pooled bilinearly: the mean over the pixels of the product of each two of the 512
channels, as a vector of 262,144 entries, of which the signed square root is taken and which is scaled to unit length.
One linear layer makes of it the quality and, through a softplus, its uncertainty. Trained on pairs of images of six
databases to predict which one people prefer; **higher is better**, without fixed limits. 21,808,962 parameters, and
513,000 of an unused classifier in the published file.

The published weights (github.com/zwx8981/UNIQUE, ``model.pt``) are not included and not downloaded: give the file.
As in the authors' ``demo.py``, an image whose both sides have at least 768 pixels is reduced with Pillow's bilinear
filter until the shorter one has 768; smaller ones are kept.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from derain.errors import ModelError
from derain.segmentation.resnet import BasicBlock, normalized

MIN_SIDE = 32
_LARGEST_SIDE = 768
_STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
_EPSILON = 1e-8


def bilinear_pooling(features: Tensor) -> Tensor:
    """``(N, C, H, W)`` to ``(N, C²)``: mean products of channels, signed square root, unit length."""
    flat = features.flatten(2)
    products = flat @ flat.transpose(1, 2) / flat.shape[2]
    rooted = products.sign() * (products.abs() + _EPSILON).sqrt()
    return F.normalize(rooted.flatten(1))


class UNIQUE(nn.Module):
    """The network, randomly initialized until :meth:`load`.

    Shape: ``(N, 3, H, W)`` RGB in [0, 1], at least 32 pixels per side, to quality and uncertainty, ``(N,)`` each.
    """

    def __init__(self) -> None:
        super().__init__()
        trunk: OrderedDict[str, nn.Module] = OrderedDict()
        trunk["conv1"] = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        trunk["bn1"] = nn.BatchNorm2d(64)
        trunk["relu"] = nn.ReLU()
        trunk["maxpool"] = nn.MaxPool2d(3, stride=2, padding=1)
        inner = 64
        for number, (channels, count) in enumerate(_STAGES, start=1):
            first = BasicBlock(inner, channels, 1 if number == 1 else 2, 1)
            rest = (BasicBlock(channels, channels, 1, 1) for _ in range(count - 1))
            trunk[f"layer{number}"] = nn.Sequential(first, *rest)
            inner = channels
        self.backbone = nn.Sequential(trunk)
        self.fc = nn.Linear(inner * inner, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Quality and uncertainty of each image."""
        quality, uncertainty = self.fc(bilinear_pooling(self.backbone(normalized(image)))).unbind(1)
        return quality, F.softplus(uncertainty)

    @classmethod
    def load(cls, path: Path) -> UNIQUE:
        """The network with the weights of a file of the authors, for inference.

        Raises:
            ModelError: missing, unreadable, holding other objects than tensors, or weights of something else.
        """
        if not path.is_file():
            raise ModelError(f"{path}: no such file; check the name")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise ModelError(f"{path}: holds objects other than tensors, which could run code; not loaded") from None
        except Exception as error:
            raise ModelError(f"{path}: not a readable checkpoint ({type(error).__name__}); get it again") from None
        if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
            state = state["state_dict"]
        network = cls()
        try:
            named = {key.removeprefix("module."): value for key, value in state.items()}
            network.load_state_dict({key: v for key, v in named.items() if not key.startswith("backbone.fc.")})
        except (AttributeError, RuntimeError, TypeError):
            raise ModelError(f"{path}: not the weights of UNIQUE; use model.pt of github.com/zwx8981/UNIQUE") from None
        return network.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def _loaded(path: Path, _modified: int) -> UNIQUE:
    return UNIQUE.load(path)


def unique(image: Tensor, model: UNIQUE | Path) -> float:
    """UNIQUE's quality of one image; higher is better.

    Args:
        image: ``(3, H, W)`` float in [0, 1], RGB, at least 32 pixels per side; rounded to 8 bits.
        model: the network, or the published file of its weights.

    Raises:
        ModelError: see :meth:`UNIQUE.load`.
        ValueError: another shape, or too small.
    """
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < MIN_SIDE:
        raise ValueError(
            f"UNIQUE needs a (3, H, W) image of at least {MIN_SIDE} pixels per side, not {tuple(image.shape)}"
        )
    if isinstance(model, Path):
        model = _loaded(model, model.stat().st_mtime_ns if model.is_file() else 0)
    pixels = torch.floor(image.detach().cpu().clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))
    if (short := min(picture.size)) >= _LARGEST_SIDE:
        size = tuple(_LARGEST_SIDE * side // short for side in picture.size)
        picture = picture.resize((size[0], size[1]), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(model.fc.weight.dtype) / 255
    with torch.inference_mode():
        quality, _ = model(values.to(model.fc.weight.device))
    return float(quality)
