"""Losses against computations from outside: scipy, numpy on hooked features, closed forms, differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from derain.errors import ModelError
from derain.features import FeaturePyramid
from derain.losses import LOSSES, create_loss
from derain.losses.segmentation import self_trained_focal


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(5)
    clean = torch.rand(2, 3, 40, 44, generator=generator)
    rainy = (clean + 0.3 * torch.rand(2, 3, 40, 44, generator=generator)).clamp(0, 1)
    derained = clean + 0.05 * torch.randn(2, 3, 40, 44, generator=generator)
    return derained, clean, rainy


def smooth(picture: np.ndarray) -> np.ndarray:
    x = np.arange(11) - 5
    window = np.exp(-(x**2) / (2 * 1.5**2))
    window /= window.sum()
    for axis in (-1, -2):
        picture = correlate1d(picture, window, axis=axis, mode="constant")
    return picture


def test_ssim_is_the_gaussian_ssim_with_zero_border(pictures):
    derained, clean, rainy = pictures
    a, b = derained.double().numpy(), clean.double().numpy()
    ma, mb = smooth(a), smooth(b)
    va, vb, cov = smooth(a * a) - ma**2, smooth(b * b) - mb**2, smooth(a * b) - ma * mb
    index = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
    assert create_loss("ssim")(derained, clean, rainy).item() == pytest.approx(-index.mean(), abs=1e-6)
    assert create_loss("ssim")(clean, clean, rainy).item() == pytest.approx(-1, abs=1e-6)
    # SGINet's habit: the constants of range 1 on pictures of range 255.
    scaled = create_loss("ssim", peak=255.0)(derained, clean, rainy).item()
    assert scaled > create_loss("ssim")(derained, clean, rainy).item()


def test_pixel_losses_have_their_closed_forms(pictures):
    derained, clean, rainy = pictures
    difference = (derained - clean).double().numpy()
    spectrum = np.fft.fft2(difference, norm="ortho")[..., : difference.shape[-1] // 2 + 1]
    expected = {
        "l1": np.abs(difference).mean(),
        "log-l1": np.mean([0.01 * np.log(1 + np.abs(one).mean() / 0.01) for one in difference]),
        "mse": (difference**2).mean(),
        "psnr": np.mean([10 * np.log10((one**2).mean() + 1e-5) for one in difference]),
        "charbonnier": np.sqrt(difference**2 + 1e-6).mean(),
        "frequency": (np.abs(spectrum.real).mean() + np.abs(spectrum.imag).mean()) / 2,
    }
    for name, value in expected.items():
        assert create_loss(name)(derained, clean, rainy).item() == pytest.approx(value, rel=1e-5), name
    assert create_loss("mse", peak=255)(derained, clean, rainy).item() == pytest.approx(expected["mse"] * 255**2)


def hooked(pyramid: FeaturePyramid, picture: torch.Tensor) -> list[np.ndarray]:
    """The tapped features, taken by hooks, not by the pyramid's own forward."""
    found: list[np.ndarray] = []
    handles = [
        pyramid.features[place].register_forward_hook(lambda _m, _i, out: found.append(out.double().numpy()))
        for place in pyramid.taps
    ]
    with torch.no_grad():
        pyramid.features(picture)
    for handle in handles:
        handle.remove()
    return found


def imagenet(picture: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (picture - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize("normalize", [True, False])
def test_pcl_from_hooked_features(pictures, normalize):
    loss = create_loss("pcl", features="random", normalize=normalize)
    ready = imagenet if normalize else (lambda picture: picture)
    d, g, r = (hooked(loss.space.pyramid, ready(p)) for p in pictures)
    assert [f.shape[1] for f in d] == [64, 128, 256, 512]
    weights = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
    expected = sum(
        w * np.abs(a - b).mean() / (np.abs(a - c).mean() + 1e-7) for w, a, b, c in zip(weights, d, g, r, strict=True)
    )
    assert loss(*pictures).item() == pytest.approx(expected, rel=1e-4)


def test_pcl_draws_to_the_truth_and_pushes_from_the_rain(pictures):
    _, clean, rainy = pictures
    loss = create_loss("pcl", features="random")
    values = [loss(clean + share * (rainy - clean), clean, rainy).item() for share in (0, 0.2, 0.5, 0.8, 0.99)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[-1] > 20 * values[1]


def test_lpisl_from_hooked_features(pictures):
    loss = create_loss("lpisl", features="random")
    pyramid = loss.metric.space.pyramid
    ours, truth = (hooked(pyramid, imagenet(p)) for p in pictures[:2])
    expected = 0.0
    for a, b in zip(ours, truth, strict=True):
        unit = [f / np.sqrt((f**2).sum(axis=1, keepdims=True)).clip(1e-10) for f in (a, b)]
        expected += ((unit[0] - unit[1]) ** 2).sum(axis=1).mean()
    assert loss(*pictures).item() == pytest.approx(expected, rel=1e-4)
    derained = pictures[0].clone().requires_grad_()
    loss(derained, *pictures[1:]).backward()
    assert derained.grad.abs().sum(dim=(1, 2, 3)).min() > 0, "every picture of the batch is taught"


def test_lpisl_as_coded_sees_the_first_picture_and_teaches_nothing(pictures):
    loss = create_loss("lpisl", features="random", as_coded=True)
    derained, clean, rainy = pictures
    derained[0, 0, 0, :2] = torch.tensor([-1.0, 2.0])  # the batch's extremes, which the stretching uses
    value = loss(derained.requires_grad_(), clean, rainy)
    assert not value.requires_grad
    changed = derained.detach().clone()
    changed[1] = 0.5
    assert loss(changed, clean, rainy).item() == pytest.approx(value.item())
    changed[0, :, 5:] = 0.5
    assert loss(changed, clean, rainy).item() != pytest.approx(value.item(), rel=1e-3)


def test_perceptual_sums_five_depths(pictures):
    loss = create_loss("perceptual", features="random", normalize=False, peak=255)
    d, g = (hooked(loss.space.pyramid, p * 255) for p in pictures[:2])
    assert [f.shape[1] for f in d] == [64, 128, 256, 512, 512]
    expected = sum(np.abs(a - b).mean() for a, b in zip(d, g, strict=True))
    assert loss(*pictures).item() == pytest.approx(expected, rel=1e-4)


def test_focal_is_the_closed_form():
    logits = torch.randn(2, 21, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    p = np.exp(logits.numpy())
    best = (p / p.sum(axis=1, keepdims=True)).max(axis=1)
    expected = (-((1 - best) ** 2) * np.log(best)).mean()
    assert self_trained_focal(logits).item() == pytest.approx(expected, rel=1e-9)
    assert self_trained_focal(torch.full((1, 4, 2, 2), 0.0)).item() == pytest.approx(0.75**2 * np.log(4), rel=1e-5)
    sure = torch.zeros(1, 4, 2, 2)
    sure[:, 1] = 1e4
    assert 0 <= self_trained_focal(sure).item() < 1e-12


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


def test_focal_gradient():
    logits = torch.randn(1, 5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(self_trained_focal, logits.requires_grad_())


def test_partial_vgg19_takes_its_own_input(tmp_path, pictures):
    pyramid = FeaturePyramid("vgg19-partial")
    torch.save(pyramid.state_dict(), tmp_path / "part.pth")
    loss = create_loss("pcl", features=f"vgg19-partial:{tmp_path / 'part.pth'}")
    bgr = [p.flip(1) * 255 - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1) for p in pictures]
    d, g, r = (hooked(loss.space.pyramid, p) for p in bgr)
    expected = sum(
        w * np.abs(a - b).mean() / np.abs(a - c).mean()
        for w, a, b, c in zip((1 / 32, 1 / 16, 1 / 8), d, g, r, strict=True)
    )
    assert loss(*pictures).item() == pytest.approx(expected, rel=1e-4)


def test_random_features_do_not_move_the_networks_own_chance():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    create_loss("pcl", features="random")
    assert torch.equal(torch.rand(3), expected)


def test_faults_are_told(tmp_path):
    with pytest.raises(ModelError, match="choose one of"):
        create_loss("frog")
    with pytest.raises(ModelError, match="features must be"):
        create_loss("pcl", features="vgg11")
    with pytest.raises(ModelError, match="not the weights of vgg19-partial"):
        create_loss("pcl", features=f"vgg19-partial:{tmp_path / 'none.pth'}")
    with pytest.raises(ModelError, match="weights are four"):
        create_loss("pcl", features="random", weights=[1.0])
    with pytest.raises(ModelError, match="l1"):
        create_loss("l1", gamma=3)
    assert set(LOSSES) >= {"l1", "mse", "charbonnier", "frequency", "ssim", "pcl", "lpisl", "segmentation-focal"}


@pytest.mark.parametrize("as_coded", [False, True])
def test_segmentation_loss_asks_ubs(pictures, as_coded):
    loss = create_loss("segmentation-focal", trunk="resnet18", weights="random", as_coded=as_coded)
    assert sum(p.numel() for p in loss.parameters() if p.requires_grad) == 0
    derained = pictures[0].clone().requires_grad_()
    torch.manual_seed(0)
    value = loss(derained, *pictures[1:])
    value.backward()
    assert derained.grad.abs().sum() > 0
    torch.manual_seed(1)
    again = loss(derained, *pictures[1:]).item()
    assert (again == value.item()) is not as_coded, "only the authors' head changes from step to step"


def test_csd_from_the_networks_own_semantics(pictures):
    from derain import create_model

    torch.manual_seed(0)
    network = create_model("sginet", width=4)
    loss = create_loss("csd")
    loss.bind(network)
    with torch.no_grad():
        d, g, r = (network.semantics(p).double().numpy() for p in pictures)
    expected = np.abs(255 * d - 255 * g).mean() / (np.abs(255 * d - 255 * r).mean() + 1e-7)
    assert loss(*pictures).item() == pytest.approx(expected, rel=1e-4)
    assert loss(pictures[1], *pictures[1:]).item() == 0
    derained = pictures[0].clone().requires_grad_()
    loss(derained, *pictures[1:]).backward()
    assert derained.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="needs a network with semantics"):
        loss.bind(create_model("prenet"))
