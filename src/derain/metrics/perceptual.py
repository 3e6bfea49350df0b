"""LPIPS, learned perceptual image patch similarity (Zhang et al., CVPR 2018), version 0.1.

Needs two public files per network, downloaded on first use: ImageNet features and the learned channel
weights. The result does not depend on a protocol: the input is RGB in [0, 1], unrounded.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from derain.errors import ModelError
from derain.features import CHANNELS, FeaturePyramid, Name, PublicFile
from derain.fetch import fetch, home

_BASE_URL = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/082bb24f84c091ea94de2867d34c4544f68e0963"
LINEAR: dict[str, PublicFile] = {
    "alex": PublicFile(
        f"{_BASE_URL}/lpips/weights/v0.1/alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
    ),
    "vgg": PublicFile(
        f"{_BASE_URL}/lpips/weights/v0.1/vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
    ),
}
_TRUNK: dict[str, Name] = {"alex": "alexnet", "vgg": "vgg16"}


class LPIPS(nn.Module):
    """Weighted squared differences of unit-length features (eq. 1).

    Args:
        net: ``alex`` (the paper's choice as a metric) or ``vgg``.

    Shape: two ``(N, 3, H, W)`` in [0, 1] to ``(N,)``; 0 for equal images. Randomly initialized until
    :meth:`load_public`. Gradients flow to both images.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Literal["alex", "vgg"] = "alex") -> None:
        super().__init__()
        if net not in _TRUNK:
            raise ValueError(f"net must be alex or vgg, not {net!r}")
        self.net = net
        self.trunk = FeaturePyramid(_TRUNK[net])
        self.weights = nn.ParameterList(torch.rand(1, c, 1, 1) for c in CHANNELS[_TRUNK[net]])
        # LPIPS' normalization of images in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance of each pair."""
        total = first.new_zeros(first.shape[0])
        for a, b, weight in zip(self._features(first), self._features(second), self.weights, strict=True):
            total = total + ((a - b) ** 2 * weight).sum(dim=1).mean(dim=(1, 2))
        return total

    def _features(self, image: Tensor) -> list[Tensor]:
        maps = self.trunk((2 * image - 1 - self.shift) / self.scale)
        return [m / (m.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for m in maps]

    def load_public(self) -> LPIPS:
        """Load the published weights, downloaded once, and freeze the network.

        Raises:
            ModelError: the download failed, or the file is something else.
        """
        self.trunk.load_public()
        public = LINEAR[self.net]
        path = fetch(f"LPIPS ({self.net})", public.url, public.sha256, home() / "features" / f"lpips-{public.file}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        for index, weight in enumerate(self.weights):
            loaded = state.get(f"lin{index}.model.1.weight")
            if loaded is None or loaded.shape != weight.shape:
                raise ModelError(
                    f"{path}: not the linear weights of LPIPS ({self.net}); delete the file to download it again"
                )
            weight.data.copy_(loaded)
        return self.eval().requires_grad_(False)


@lru_cache(maxsize=2)
def published_lpips(net: Literal["alex", "vgg"] = "alex") -> LPIPS:
    """The metric with its published weights, cached; raises as :func:`lpips`."""
    return LPIPS(net).load_public()


def lpips(derained: Tensor, clean: Tensor, net: Literal["alex", "vgg"] = "alex") -> Tensor:
    """LPIPS with the published weights; lower is better.

    Args:
        derained, clean: ``(N, 3, H, W)`` float in [0, 1], RGB, at least 64 pixels per side.
        net: ``alex`` or ``vgg``.

    Returns:
        ``(N,)`` float32.

    Raises:
        ModelError: the weights cannot be downloaded.
        ValueError: shapes that differ, or are too small.
    """
    if derained.shape != clean.shape or derained.ndim != 4 or min(derained.shape[2:]) < 64:
        shapes = f"{tuple(derained.shape)} and {tuple(clean.shape)}"
        raise ValueError(f"LPIPS needs two (N, 3, H, W) of equal size, at least 64 pixels per side, not {shapes}")
    with torch.inference_mode():
        distance: Tensor = published_lpips(net).to(derained.device)(derained.float(), clean.float())
    return distance
