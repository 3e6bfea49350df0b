"""All losses by name: gradients and errors."""

from __future__ import annotations

import pytest
import torch

from derain.errors import ModelError
from derain.losses import LOSSES, create_loss


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ssim", {}),
        ("charbonnier", {}),
        ("frequency", {}),
        ("log-l1", {"floor": 0.02}),
        ("psnr", {}),
        ("pcl", {"features": "random"}),
        ("lpisl", {"features": "random"}),
        ("perceptual", {"features": "random"}),
    ],
)
def test_gradients_by_finite_differences(name, options):
    loss = create_loss(name, **options).double()
    generator = torch.Generator().manual_seed(1)
    clean, rainy = (torch.rand(1, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(2))
    derained = (0.8 * clean + 0.2 * rainy).requires_grad_()
    direction = torch.randn(derained.shape, generator=generator, dtype=torch.float64)
    loss(derained, clean, rainy).backward()
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (loss(derained + s * direction, clean, rainy) for s in (step, -step))
    assert (derained.grad * direction).sum().item() == pytest.approx(((ahead - behind) / (2 * step)).item(), rel=2e-3)


def test_invalid_arguments_raise(tmp_path):
    with pytest.raises(ModelError, match="choose one of"):
        create_loss("unknown")
    with pytest.raises(ModelError, match="features must be"):
        create_loss("pcl", features="vgg11")
    with pytest.raises(ModelError, match="not the weights of vgg19-partial"):
        create_loss("pcl", features=f"vgg19-partial:{tmp_path / 'none.pth'}")
    with pytest.raises(ModelError, match="weights must be four"):
        create_loss("pcl", features="random", weights=[1.0])
    with pytest.raises(ModelError, match="l1"):
        create_loss("l1", gamma=3)
    assert set(LOSSES) >= {"l1", "mse", "charbonnier", "frequency", "ssim", "pcl", "lpisl", "segmentation-focal"}
