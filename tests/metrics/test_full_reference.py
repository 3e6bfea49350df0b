"""Metrics against outside implementations and closed forms."""

from __future__ import annotations

import kornia
import numpy as np
import pytest
import torch
from scipy.ndimage import correlate
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from derain.errors import InputError
from derain.metrics import PROTOCOLS, luma, protocol_named, psnr, ssim


@pytest.fixture(scope="module")
def noisy(photo) -> np.ndarray:
    return np.clip(photo + np.random.default_rng(0).normal(0, 9, photo.shape), 0, 255).astype(np.uint8)


def as_float(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255


def luma_of(image: np.ndarray) -> np.ndarray:
    return luma(torch.from_numpy(image).permute(2, 0, 1)[None])[0, 0].numpy()


def test_luma_is_matlabs(photo):
    exact = rgb2ycbcr(photo)[..., 0]
    tie = np.abs(exact % 1 - 0.5) < 1e-9  # floats decide these by their last bit; MATLAB rounds them up
    np.testing.assert_array_equal(luma_of(photo), np.where(tie, np.ceil(exact), np.round(exact)))
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma_of(corners).tolist() == [[16, 235, 81, 145, 41]]


def test_full_range_luma_is_pillows(photo):
    from PIL import Image

    ours = luma(torch.from_numpy(photo).permute(2, 0, 1)[None], "jpeg")[0, 0].numpy()
    assert np.abs(ours - np.asarray(Image.fromarray(photo).convert("L"))).max() <= 1  # Pillow truncates fixed point


def test_psnr_agrees_with_scikit_image(photo, noisy):
    assert psnr(noisy, photo, "rgb").item() == pytest.approx(peak_signal_noise_ratio(photo, noisy), abs=1e-9)
    assert psnr(noisy, photo, "rgb-uniform").item() == psnr(noisy, photo, "rgb").item()
    expected = peak_signal_noise_ratio(luma_of(photo), luma_of(noisy), data_range=255)
    assert psnr(noisy, photo, "y").item() == pytest.approx(expected, abs=1e-9)
    assert psnr(noisy, photo, "y-downsampled").item() == psnr(noisy, photo).item()
    fractional = as_float(noisy) * 0.98 + 0.001
    expected = peak_signal_noise_ratio(as_float(photo).numpy(), fractional.numpy(), data_range=1)
    assert psnr(fractional, as_float(photo), "float").item() == pytest.approx(expected, abs=1e-9)


def test_ssim_and_psnr_agree_with_kornia(photo, noisy):
    ours, truth = as_float(noisy), as_float(photo)
    expected = kornia.metrics.ssim(ours, truth, 11, padding="valid").mean(dim=(1, 2, 3))
    torch.testing.assert_close(ssim(ours, truth, "rgb"), expected, rtol=0, atol=1e-6)
    assert psnr(ours, truth, "rgb").item() == pytest.approx(kornia.metrics.psnr(ours, truth, 1.0).item(), abs=1e-6)


GAUSS = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}


def cropped_mean(index: np.ndarray, border: int) -> float:
    return float(index[border:-border, border:-border].mean())


def test_gaussian_ssim_is_scikit_images_cropped_by_5(photo, noisy):
    _, index = structural_similarity(luma_of(photo), luma_of(noisy), data_range=255, **GAUSS)
    assert ssim(noisy, photo, "y").item() == pytest.approx(cropped_mean(index, 5), abs=1e-9)
    _, index = structural_similarity(photo, noisy, channel_axis=2, **GAUSS)
    assert ssim(noisy, photo, "rgb").item() == pytest.approx(cropped_mean(index, 5), abs=1e-9)


def test_uniform_ssim_is_scikit_images_default(photo, noisy):
    expected = structural_similarity(photo, noisy, channel_axis=2)
    assert ssim(noisy, photo, "rgb-uniform").item() == pytest.approx(expected, abs=1e-9)


def test_zero_padded_ssim_is_scipys(photo, noisy):
    x = np.arange(11) - 5
    window = np.exp(-(x**2) / 4.5)
    window = np.outer(window, window) / window.sum() ** 2
    indices = []
    for channel in range(3):
        a, b = (p[..., channel] / 255 for p in (photo, noisy))
        blur = {
            k: correlate(v, window, mode="constant")
            for k, v in {"a": a, "b": b, "aa": a * a, "bb": b * b, "ab": a * b}.items()
        }
        top = (2 * blur["a"] * blur["b"] + 1e-4) * (2 * (blur["ab"] - blur["a"] * blur["b"]) + 9e-4)
        variances = blur["aa"] - blur["a"] ** 2 + blur["bb"] - blur["b"] ** 2
        indices.append(top / ((blur["a"] ** 2 + blur["b"] ** 2 + 1e-4) * (variances + 9e-4)))
    assert ssim(as_float(noisy), as_float(photo), "float").item() == pytest.approx(np.mean(indices), abs=1e-9)


@pytest.mark.parametrize(("size", "factor"), [((384, 390), 2), ((650, 700), 3), ((901, 1030), 4)])
def test_wang_downsampling_is_matlabs(size, factor):
    from derain.metrics.full_reference import _wang_downsample

    image = np.random.default_rng(0).random(size)
    origin = (factor + 1) // 2 - 1  # MATLAB: floor((size + 1) / 2), counted from one
    pad = (origin, factor - 1 - origin)
    padded = np.pad(image, (pad, pad), mode="symmetric")
    expected = [
        [padded[i : i + factor, j : j + factor].mean() for j in range(0, size[1], factor)]
        for i in range(0, size[0], factor)
    ]
    found = _wang_downsample(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestEveryProtocol:
    def test_equal_images_are_perfect(self, protocol, photo):
        assert psnr(photo, photo, protocol).item() == float("inf")
        assert ssim(photo, photo, protocol).item() == pytest.approx(1, abs=1e-12)

    def test_batches_equal_single_images(self, protocol, photo, noisy):
        pairs = [(noisy, photo), (photo[::-1].copy(), photo)]
        ours, truth = (torch.cat([as_float(pair[i]) for pair in pairs]) for i in (0, 1))
        for metric in (psnr, ssim):
            together = metric(ours, truth, protocol)
            assert together.dtype == torch.float64
            alone = torch.cat([metric(a, b, protocol) for a, b in pairs])
            torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)

    def test_symmetry(self, protocol, photo, noisy):
        assert psnr(noisy, photo, protocol).item() == pytest.approx(psnr(photo, noisy, protocol).item())
        assert ssim(noisy, photo, protocol).item() == pytest.approx(ssim(photo, noisy, protocol).item())


def test_a_constant_error_has_its_closed_form():
    gray = np.full((20, 20, 3), 100, np.uint8)
    assert psnr(gray + np.uint8(10), gray, "rgb").item() == pytest.approx(20 * np.log10(255 / 10))


def test_rgb_truncates_the_result_alone_as_sapnets_script(photo):
    clean = np.clip(photo, 8, 247)
    floats = (clean + np.random.default_rng(1).uniform(-4, 4, clean.shape)).astype(np.float32) / 255
    file = np.uint8(255 * floats)
    for derained, truth in (
        (torch.from_numpy(floats).permute(2, 0, 1), clean),
        (torch.from_numpy(floats).permute(2, 0, 1), as_float(clean)),
        (file, clean),
        (as_float(file).float(), as_float(clean).float()),
    ):
        found = psnr(derained, truth, "rgb").item()
        assert found == pytest.approx(peak_signal_noise_ratio(clean, file), abs=1e-9)
    assert psnr(torch.from_numpy(floats).permute(2, 0, 1), clean, protocol_named("rgb", "round")).item() != found


def test_protocols_can_take_another_quantizer(photo):
    floats = torch.from_numpy(photo).permute(2, 0, 1).double() / 255 + 0.4 / 255
    assert psnr(floats, photo, "y").item() == float("inf")
    brighter = floats + 0.2 / 255
    assert psnr(brighter, photo, protocol_named("y", "truncate")).item() == float("inf")
    assert ssim(brighter, photo, protocol_named("y", "truncate")).item() == 1
    assert psnr(brighter, photo, "y").item() < 60
    with pytest.raises(InputError, match="quantizer must be"):
        protocol_named("y", "floor")


def test_invalid_arguments_raise(photo):
    with pytest.raises(ValueError, match="uint8"):
        psnr(photo / 255, photo)
    with pytest.raises(ValueError, match="differ in size"):
        psnr(photo, photo[1:])
    with pytest.raises(ValueError, match="choose one of y, rgb"):
        ssim(photo, photo, "magic")
    with pytest.raises(ValueError, match="at least 11"):
        ssim(photo[:8], photo[:8])
    with pytest.raises(ValueError, match="RGB"):
        psnr(torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9))
