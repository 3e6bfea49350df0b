"""BRISQUE: features against an independent computation, regressions against OpenCV's and closed forms."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.color
import skimage.data
import torch
from scipy.ndimage import correlate, gaussian_filter
from scipy.optimize import brentq
from scipy.special import gamma as gamma_function

from derain.errors import InputError
from derain.metrics import BrisqueModel, brisque
from derain.metrics.brisque import brisque_features, kernel
from support.brisque import installed_package, libsvm, tensor


def reference_features(image: np.ndarray) -> list[float]:
    """The features by their formulas, with border and downsampling as in OpenCV."""
    x = np.arange(7) - 3
    window = np.exp(-(x**2) / (2 * (7 / 6) ** 2))
    window = np.outer(window, window) / window.sum() ** 2
    grid = np.arange(0.2, 10, 0.001)
    ratios = gamma_function(2 / grid) ** 2 / (gamma_function(1 / grid) * gamma_function(3 / grid))

    def fit(v: np.ndarray) -> tuple[float, float, float]:
        left, right = np.sqrt((v[v < 0] ** 2).mean()), np.sqrt((v[v > 0] ** 2).mean())
        g = left / right
        r = np.abs(v).mean() ** 2 / (v**2).mean() * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
        return float(grid[np.abs(ratios - r).argmin()]), float(left), float(right)

    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    features = []
    for scale in (1, 2):
        if scale == 2:
            gray = cv2.resize(gray, (gray.shape[1] // 2, gray.shape[0] // 2), interpolation=cv2.INTER_CUBIC)
        mean = correlate(gray, window, mode="nearest")
        sigma = np.sqrt(np.abs(correlate(gray**2, window, mode="nearest") - mean**2))
        m = (gray - mean) / (sigma + 1)
        shape, left, right = fit(m)
        features += [shape, (left**2 + right**2) / 2]
        padded = np.pad(m, 1)
        height, width = m.shape
        for dy, dx in ((0, 1), (1, 0), (1, 1), (-1, 1)):
            shape, left, right = fit(m * padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width])
            scale_ = np.sqrt(gamma_function(1 / shape) / gamma_function(3 / shape))
            features += [shape, (right - left) * gamma_function(2 / shape) / gamma_function(1 / shape) * scale_]
            features += [left**2, right**2]
    return features


def test_features_match_their_formulas():
    image = skimage.data.coffee()[:201, :300]
    found = brisque_features(tensor(image), "opencv")
    # Shapes come from a grid of 0.001; OpenCV's gray values may round the other way.
    np.testing.assert_allclose(found, reference_features(image), rtol=0.01, atol=0.003)


def test_variants_differ_only_in_downsampling_and_border():
    image = tensor(skimage.data.coffee()[:200, :300])
    paper, opencv = (brisque_features(image, v) for v in ("paper", "opencv"))
    assert paper.shape == (36,)
    np.testing.assert_allclose(paper[:2], opencv[:2])
    np.testing.assert_allclose(paper[2:18], opencv[2:18], rtol=0.05, atol=0.01)
    assert np.abs(paper[18:] - opencv[18:]).max() > 0.05


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_distortions_look_distorted(name):
    clean = getattr(skimage.data, name)()[:300, :300]
    noisy = np.clip(clean + np.random.default_rng(0).normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
    coded = cv2.imdecode(cv2.imencode(".jpg", clean, [cv2.IMWRITE_JPEG_QUALITY, 8])[1], cv2.IMREAD_COLOR)
    blurred = gaussian_filter(clean, (3, 3, 0))
    assert brisque(tensor(clean)) + 10 < min(brisque(tensor(p)) for p in (noisy, coded, blurred))


@pytest.fixture(scope="module")
def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 36))
    return features, 40 + 10 * features[:, 0] + 5 * features[:, 1] ** 2


def test_files_of_opencv_give_its_values(samples, tmp_path):
    features, targets = samples
    low, high = features.min(axis=0), features.max(axis=0)
    scaled = ((features - low) / (high - low) * 2 - 1).astype(np.float32)
    svm = cv2.ml.SVM_create()
    svm.setType(cv2.ml.SVM_EPS_SVR)
    svm.setKernel(cv2.ml.SVM_RBF)
    svm.setGamma(0.05)
    svm.setC(1024)
    svm.setP(0.1)
    svm.train(scaled, cv2.ml.ROW_SAMPLE, targets.astype(np.float32))
    svm.save(str(tmp_path / "brisque_model_x.yml"))
    ranges = cv2.FileStorage(str(tmp_path / "brisque_range_x.yml"), cv2.FILE_STORAGE_WRITE)
    ranges.write("range", np.stack([low, high]).astype(np.float32))
    ranges.release()
    model = BrisqueModel.load(tmp_path / "brisque_model_x.yml")
    assert model.variant == "opencv"
    np.testing.assert_allclose(model.predict(features), svm.predict(scaled)[1][:, 0], rtol=1e-3, atol=1e-2)


def test_files_of_libsvm_give_the_closed_form(tmp_path):
    model = BrisqueModel.load(libsvm(tmp_path))
    assert model.variant == "paper"
    features = np.arange(1, 37) / 2  # the middle of every range: zero when scaled
    assert model.predict(features[None])[0] == pytest.approx(30 + 7 * np.exp(-0.5) - 4 * np.exp(-0.5))
    features[0] = 1.0
    assert model.predict(features[None])[0] == pytest.approx(30 + 7 - 4 * np.exp(-1))


def package_features(image: np.ndarray) -> list[float]:
    """As the Python package ``brisque`` defines them: shapes by root finding, zeros around the image."""
    x = np.arange(7) - 3
    window = np.exp(-(x**2) / (2 * (7 / 6) ** 2))
    window = np.outer(window, window) / window.sum() ** 2

    def fit(v: np.ndarray) -> tuple[float, float, float]:
        left, right = np.sqrt((v[v < 0] ** 2).mean()), np.sqrt((v[v >= 0] ** 2).mean())
        g = left / right
        r = np.abs(v).mean() ** 2 / (v**2).mean() * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
        shape = brentq(
            lambda a: gamma_function(2 / a) ** 2 / gamma_function(1 / a) / gamma_function(3 / a) - r, 0.1, 20
        )
        return shape, left, right

    gray = skimage.color.rgb2gray(image)
    features = []
    for scale in (1, 2):
        if scale == 2:
            gray = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
        mean = correlate(gray, window, mode="constant")
        m = (gray - mean) / (np.sqrt(np.abs(correlate(gray**2, window, mode="constant") - mean**2)) + 1 / 255)
        shape, left, right = fit(m)
        features += [shape, (left**2 + right**2) / 2]
        for product in (m[:, :-1] * m[:, 1:], m[:-1] * m[1:], m[:-1, :-1] * m[1:, 1:], m[1:, :-1] * m[:-1, 1:]):
            shape, left, right = fit(product)
            scale_ = np.sqrt(gamma_function(1 / shape) / gamma_function(3 / shape))
            features += [shape, (right - left) * scale_ * gamma_function(2 / shape) / gamma_function(1 / shape)]
            features += [left**2, right**2]
    return features


@pytest.mark.parametrize("size", [(200, 300), (203, 301)])
def test_features_of_the_python_package(size):
    image = skimage.data.coffee()[: size[0], : size[1]]
    found = brisque_features(tensor(image), "package")
    np.testing.assert_allclose(found, package_features(image), rtol=0, atol=0.001)  # the grid of shapes
    assert np.abs(found - brisque_features(tensor(image), "opencv")).max() > 0.01


def test_the_python_package_is_found_but_not_imported(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="not installed here: pip install"):
        BrisqueModel.installed()
    file = installed_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert BrisqueModel.installed() == file
    model = BrisqueModel.load(file)
    assert model.variant == "package"
    text = BrisqueModel.load(libsvm(tmp_path))
    for name in ("low", "high", "vectors", "weights", "offset", "gamma"):
        np.testing.assert_array_equal(getattr(model, name), getattr(text, name))


class Runs:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"min_": Runs(), "max_": [1.0] * 36}, r"print, not plain numbers"),
        ({"min_": np.zeros(36), "max_": np.ones(36)}, r"numpy\S* not plain numbers"),
        ({"low": [0.0] * 36}, "no min_ and max_"),
        ([0.0] * 36, "no min_ and max_"),
        ({"min_": 0.0, "max_": 1.0}, "not lists of numbers"),
        ({"min_": [0.0] * 35, "max_": [1.0] * 35}, "36 features each"),
        (b"garbage", "not a readable pickle"),
        (b"", "not a readable pickle"),
        (b"x" * 200_000, "too large"),
    ],
)
def test_pickles_of_anything_but_numbers_are_refused(ranges, message, tmp_path, capsys):
    with pytest.raises(InputError, match=message) as caught:
        BrisqueModel.load(installed_package(tmp_path, ranges))
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_the_kernel_matches_its_formula():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 36))
    expected = [[np.exp(-0.05 * ((x - y) ** 2).sum()) for y in b] for x in a]
    np.testing.assert_allclose(kernel(a, b, 0.05), expected)


def test_other_files_are_rejected(tmp_path):
    with pytest.raises(InputError, match="range file next to it"):
        BrisqueModel.load(tmp_path / "allmodel")
    with pytest.raises(InputError, match="epsilon regression"):
        BrisqueModel.load(libsvm(tmp_path, model="c_svc"))
    with pytest.raises(InputError, match="does not scale"):
        BrisqueModel.load(libsvm(tmp_path, spans="0 1"))
    (tmp_path / "brisque_range.yml").write_text("garbage")
    for text in ("garbage", "%YAML:1.0\n---\nother: 3\n"):
        (tmp_path / "brisque_model.yml").write_text(text)
        with pytest.raises(InputError, match="not a BRISQUE model"):
            BrisqueModel.load(tmp_path / "brisque_model.yml")


def test_small_images_and_other_shapes_are_rejected():
    for shape in ((3, 31, 300), (1, 64, 64), (3, 64)):
        with pytest.raises(ValueError, match="at least 32"):
            brisque(torch.rand(shape))


def test_a_flat_image_has_a_score():
    assert 0 <= brisque(torch.full((3, 64, 64), 0.5)) <= 100
