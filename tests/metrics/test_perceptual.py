"""LPIPS: the paper's formula, downloads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from derain import features
from derain.errors import ModelError
from derain.features import FeaturePyramid
from derain.metrics import LPIPS, lpips, perceptual


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_values_match_the_formula_in_numpy(net):
    torch.manual_seed(0)
    metric = LPIPS(net).eval()
    first, second = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = metric(first, second).numpy()
        maps = []
        for image in (first, second):
            scaled = (image * 2 - 1 - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor(
                [0.458, 0.448, 0.450]
            ).view(3, 1, 1)
            maps.append([m.double().numpy() for m in metric.trunk(scaled)])
    expected = np.zeros(2)
    for a, b, weight in zip(*maps, metric.weights, strict=True):
        unit = [m / np.linalg.norm(m, axis=1, keepdims=True).clip(1e-10) for m in (a, b)]
        expected += np.einsum("nchw,c->nhw", (unit[0] - unit[1]) ** 2, weight.detach().double().numpy().ravel()).mean(
            (1, 2)
        )
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_equal_images_have_no_distance_and_gradients_flow():
    metric = LPIPS("alex")
    image = torch.rand(1, 3, 64, 64)
    assert metric(image, image).item() == 0
    moving = torch.rand(1, 3, 64, 64, requires_grad=True)
    metric(moving, image).sum().backward()
    assert moving.grad is not None
    assert moving.grad.abs().sum() > 0


@pytest.fixture
def public(web: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files of AlexNet and LPIPS on a local server, with random weights and their own checksums."""
    www, address = web
    trunk = FeaturePyramid("alexnet").state_dict()
    torch.save({**trunk, "classifier.1.weight": torch.zeros(2)}, www / "alexnet.pth")
    linear = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(features.CHANNELS["alexnet"])}
    torch.save(linear, www / "alex.pth")
    for table, key, file in ((features.PUBLIC, "alexnet", "alexnet.pth"), (perceptual.LINEAR, "alex", "alex.pth")):
        digest = hashlib.sha256((www / file).read_bytes()).hexdigest()
        monkeypatch.setitem(table, key, replace(table[key], url=f"{address}/{file}", sha256=digest))
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    perceptual.published_lpips.cache_clear()
    yield www
    perceptual.published_lpips.cache_clear()


def test_published_weights_are_downloaded_once(public: Path):
    first, second = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    value = lpips(first, second)
    assert value.shape == (2,)
    assert (value > 0).all()
    for file in public.iterdir():
        file.unlink()
    perceptual.published_lpips.cache_clear()
    torch.testing.assert_close(lpips(first, second), value)


def test_a_failed_download_is_reported(public: Path):
    (public / "alexnet.pth").unlink()
    with pytest.raises(ModelError, match=r"alexnet features: cannot fetch .* put the file at"):
        lpips(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64))


def test_eval_reports_lpips(public: Path, command, tmp_path, photo):
    import json

    from PIL import Image

    for kind, image in (("input", photo[::-1]), ("target", photo)):
        (tmp_path / "set" / kind).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "set" / kind / "1.png")
    arguments = ("eval", "--data", tmp_path / "set", "--results", tmp_path / "set" / "input", "--metrics", "lpips")
    code, out, _ = command(*arguments, "--json", tmp_path / "a.json")
    assert code == 0
    assert "LPIPS" in out
    result = json.loads((tmp_path / "a.json").read_text())
    pair = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 255 for p in (photo[::-1], photo)]
    assert result["images"][0]["lpips"] == pytest.approx(lpips(*pair).item(), rel=1e-3)
    assert result["summary"][0]["lpips"] == result["images"][0]["lpips"]
    assert "niqe" not in result["summary"][0]


def test_eval_reports_a_failed_download_once(public: Path, command, tmp_path, photo):
    from PIL import Image

    for kind in ("input", "target"):
        (tmp_path / "set" / kind).mkdir(parents=True)
        for n in (1, 2):
            Image.fromarray(photo).save(tmp_path / "set" / kind / f"{n}.png")
    (public / "alex.pth").unlink()
    code, _, err = command(
        "eval", "--data", tmp_path / "set", "--results", tmp_path / "set" / "input", "--metrics", "lpips"
    )
    assert code == 1
    assert err.count("error: ") == 1
    assert "cannot fetch" in err


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="alex or vgg"):
        LPIPS("squeeze")
    with pytest.raises(ValueError, match="at least 64"):
        lpips(torch.rand(1, 3, 32, 64), torch.rand(1, 3, 32, 64))
