"""Feature losses against numpy on hooked features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from derain.features import FeaturePyramid
from derain.losses import create_loss


def hooked(pyramid: FeaturePyramid, image: torch.Tensor) -> list[np.ndarray]:
    """The tapped features, recorded by hooks instead of the pyramid's forward."""
    found: list[np.ndarray] = []
    handles = [
        pyramid.features[place].register_forward_hook(lambda _m, _i, out: found.append(out.double().numpy()))
        for place in pyramid.taps
    ]
    with torch.no_grad():
        pyramid.features(image)
    for handle in handles:
        handle.remove()
    return found


def imagenet(image: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize("normalize", [True, False])
def test_pcl_from_hooked_features(images, normalize):
    loss = create_loss("pcl", features="random", normalize=normalize)
    prepare = imagenet if normalize else (lambda image: image)
    d, g, r = (hooked(loss.space.pyramid, prepare(p)) for p in images)
    assert [f.shape[1] for f in d] == [64, 128, 256, 512]
    weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
    expected = sum(
        w * np.abs(a - b).mean() / (np.abs(a - c).mean() + 1e-7) for w, a, b, c in zip(weights, d, g, r, strict=True)
    )
    assert loss(*images).item() == pytest.approx(expected, rel=1e-4)


def test_pcl_grows_from_the_clean_to_the_rainy_image(images):
    _, clean, rainy = images
    loss = create_loss("pcl", features="random")
    values = [loss(clean + share * (rainy - clean), clean, rainy).item() for share in (0, 0.2, 0.5, 0.8, 0.99)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[-1] > 20 * values[1]


def test_lpisl_from_hooked_features(images):
    loss = create_loss("lpisl", features="random")
    pyramid = loss.metric.space.pyramid
    ours, truth = (hooked(pyramid, imagenet(p)) for p in images[:2])
    expected = 0.0
    for a, b in zip(ours, truth, strict=True):
        unit = [f / np.sqrt((f**2).sum(axis=1, keepdims=True)).clip(1e-10) for f in (a, b)]
        expected += ((unit[0] - unit[1]) ** 2).sum(axis=1).mean()
    assert loss(*images).item() == pytest.approx(expected, rel=1e-4)
    derained = images[0].clone().requires_grad_()
    loss(derained, *images[1:]).backward()
    assert derained.grad.abs().sum(dim=(1, 2, 3)).min() > 0, "every image of the batch has a gradient"


def test_lpisl_as_coded_uses_only_the_first_image_and_has_no_gradient(images):
    loss = create_loss("lpisl", features="random", as_coded=True)
    derained, clean, rainy = images
    derained[0, 0, 0, :2] = torch.tensor([-1.0, 2.0])  # the extremes of the batch, which the stretching uses
    value = loss(derained.requires_grad_(), clean, rainy)
    assert not value.requires_grad
    changed = derained.detach().clone()
    changed[1] = 0.5
    assert loss(changed, clean, rainy).item() == pytest.approx(value.item())
    changed[0, :, 5:] = 0.5
    assert loss(changed, clean, rainy).item() != pytest.approx(value.item(), rel=1e-3)


def test_perceptual_sums_five_depths(images):
    loss = create_loss("perceptual", features="random", normalize=False, peak=255)
    d, g = (hooked(loss.space.pyramid, p * 255) for p in images[:2])
    assert [f.shape[1] for f in d] == [64, 128, 256, 512, 512]
    expected = sum(np.abs(a - b).mean() for a, b in zip(d, g, strict=True))
    assert loss(*images).item() == pytest.approx(expected, rel=1e-4)


def test_partial_vgg19_takes_its_own_input(tmp_path, images):
    pyramid = FeaturePyramid("vgg19-partial")
    torch.save(pyramid.state_dict(), tmp_path / "part.pth")
    loss = create_loss("pcl", features=f"vgg19-partial:{tmp_path / 'part.pth'}")
    bgr = [p.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1) for p in images]
    d, g, r = (hooked(loss.space.pyramid, p) for p in bgr)
    expected = sum(
        w * np.abs(a - b).mean() / np.abs(a - c).mean()
        for w, a, b, c in zip((1 / 32, 1 / 16, 1 / 8), d, g, r, strict=True)
    )
    assert loss(*images).item() == pytest.approx(expected, rel=1e-4)


def test_random_features_do_not_change_the_global_random_state():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    create_loss("pcl", features="random")
    assert torch.equal(torch.rand(3), expected)
