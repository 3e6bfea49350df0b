"""UNIQUE's network against a direct implementation, its size, its resizing and its files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from derain.errors import ModelError
from derain.metrics.unique import UNIQUE, bilinear_pooling, unique


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = UNIQUE().eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif name.startswith("fc."):
                value.normal_()
    return network


def published(network: UNIQUE) -> dict[str, torch.Tensor]:
    """The file as ``DataParallel`` saves the authors' network, whose trunk keeps its classifier."""
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    return state | {"module.backbone.fc.weight": torch.zeros(1000, 512), "module.backbone.fc.bias": torch.zeros(1000)}


def direct(state: dict[str, torch.Tensor], image: torch.Tensor) -> tuple[float, float]:
    """ResNet-34 and bilinear pooling written out on torchvision's names."""

    def norm(key: str, x: torch.Tensor) -> torch.Tensor:
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"module.backbone.{key}.{name}"] for name in names))

    def conv(key: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = state[f"module.backbone.{key}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (image - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    x = F.max_pool2d(norm("bn1", conv("conv1", x[None], 2)).relu(), 3, 2, 1)
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        for block in range(count):
            key, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(f"{key}.bn1", conv(f"{key}.conv1", x, stride)).relu()
            y = norm(f"{key}.bn2", conv(f"{key}.conv2", y))
            if stride == 2:
                x = norm(f"{key}.downsample.1", conv(f"{key}.downsample.0", x, 2))
            x = (x + y).relu()
    vector = torch.einsum("cyx,dyx->cd", x[0], x[0]) / x[0, 0].numel()
    vector = (vector.sign() * (vector.abs() + 1e-8).sqrt()).flatten()
    quality, spread = state["module.fc.weight"] @ (vector / vector.norm()) + state["module.fc.bias"]
    return quality.item(), torch.log1p(spread.exp()).item()


def test_network_agrees_with_a_direct_implementation(network):
    image = torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        quality, uncertainty = network(image[None])
    expected = direct(published(network), image)
    assert (quality.item(), uncertainty.item()) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_parameter_count_is_the_published_one_without_the_classifier(network):
    """22.3 million in the published file: ResNet-34 has 21,797,672."""
    count = sum(p.numel() for p in network.parameters())
    assert count == 21_797_672 - 513_000 + 2 * 512**2 + 2


def test_bilinear_pooling_of_constant_features():
    """Of channels with values a and b everywhere: √ of aa, ab, ba, bb, over the length a + b."""
    features = torch.tensor([1.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 3, 5)
    torch.testing.assert_close(bilinear_pooling(features), torch.tensor([[1.0, 2.0, 2.0, 4.0]]) / 5)


@pytest.mark.parametrize(("width", "height", "size"), [(768, 800, (768, 800)), (1000, 770, (997, 768))])
def test_large_images_are_reduced_as_by_pillow(network, width, height, size):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    reduced = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    values = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in (pixels, reduced)]
    with torch.inference_mode():
        expected = network(values[1][None])[0].item()
    assert unique(values[0], network) == pytest.approx(expected, rel=1e-5)


def test_published_files_are_read(network, tmp_path):
    image = torch.rand(3, 40, 40)
    torch.save(published(network), tmp_path / "model.pt")
    assert unique(image, tmp_path / "model.pt") == pytest.approx(unique(image, network))
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="not the weights of UNIQUE"):
        unique(image, tmp_path / "other.pt")
    torch.save({"weights": Image.new("RGB", (1, 1))}, tmp_path / "code.pt")
    with pytest.raises(ModelError, match="could run code"):
        unique(image, tmp_path / "code.pt")
    (tmp_path / "text.pt").write_text("<html>")
    with pytest.raises(ModelError, match=r"text\.pt"):
        unique(image, tmp_path / "text.pt")
    with pytest.raises(ModelError, match="no such file"):
        unique(image, tmp_path / "none.pt")


def test_wrong_shapes_are_rejected(network):
    with pytest.raises(ValueError, match="32 pixels"):
        unique(torch.rand(3, 20, 40), network)
    with pytest.raises(ValueError, match="not"):
        unique(torch.rand(1, 3, 40, 40), network)
