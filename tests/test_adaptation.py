"""A network learns the rain of one image: what must hold of the result, the checks, the command."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

from derain import Derainer, adaptation, create_model
from derain.adaptation import adapt_network, restore_light
from derain.images import Picture, read
from derain.models import MODELS, SizeRule
from derain.rain import NoiseParams, render_noise


@pytest.fixture(autouse=True)
def one_thread():
    """Equal results need an equal number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def apply(network, planes):
    with torch.inference_mode():
        return np.clip(network(torch.from_numpy(np.ascontiguousarray(planes))[None])[0].numpy(), 0, 1)


class HalfDarker(nn.Module):
    """Takes a share of everything away; the share can be learned."""

    def __init__(self, share: float = 0.1) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, rainy):
        return rainy * (1 - self.share)


@pytest.fixture
def rainy(photo) -> np.ndarray:
    """``(3, 160, 176)``: a photograph under a kind of rain."""
    clean = photo[:160, :176].transpose(2, 0, 1).astype(np.float32) / 255
    layer = render_noise((160, 176), NoiseParams(length=18, angle=10, brightness=0.5), np.random.default_rng(1))
    return np.minimum(clean + layer, 1)


def test_lifting_gives_back_what_was_taken_between_the_streaks(rainy):
    # A result that is right but for a tenth taken everywhere: half of that comes back.
    streaks = np.zeros((160, 176), np.float32)
    streaks[:, ::12] = 0.3
    scene = np.full((3, 160, 176), 0.4, np.float32)
    back = restore_light(scene + streaks, scene - 0.1)
    np.testing.assert_allclose(back, scene - 0.05, atol=1e-3)
    # One that leaves the gaps alone stays as it is, whatever it takes elsewhere; brighter ones too.
    np.testing.assert_array_equal(restore_light(scene + streaks, scene), scene)
    np.testing.assert_array_equal(restore_light(scene, scene + 0.1), scene + np.float32(0.1))


@pytest.mark.parametrize("size", [(5, 7), (24, 24), (25, 61), (130, 40)])
def test_restoring_light_takes_any_size(size):
    planes = np.full((3, *size), 0.5, np.float32)
    np.testing.assert_allclose(restore_light(planes, planes - 0.2), planes - 0.1, atol=1e-6)


def test_the_fine_part_alone_is_learned():
    rng = np.random.default_rng(0)
    drift = np.full((3, 64, 64), 0.2, np.float32)
    detail = np.kron(rng.choice([-0.1, 0.1], (3, 32, 32)), np.ones((2, 2))).astype(np.float32)
    fine = adaptation._fine(drift + detail)
    assert np.abs(fine.mean()) < 1e-3
    assert np.corrcoef(fine.ravel(), detail.ravel())[0, 1] > 0.99


def test_nothing_is_changed_where_no_rain_is_found(photo):
    planes = photo[:100, :100].transpose(2, 0, 1).astype(np.float32) / 255
    network = nn.Identity()
    seen = []
    adapted = adapt_network(network, planes, apply, SizeRule(), on_step=lambda *step: seen.append(step))
    np.testing.assert_array_equal(adapted.planes, planes)
    assert (adapted.refused, adapted.steps, adapted.share) == ("hardly any rain was found", 0, 0)
    assert seen[-1][0] == seen[-1][1]


def test_under_very_dense_rain_only_light_is_restored():
    planes = np.full((3, 60, 61), 0.9, np.float32)
    adapted = adapt_network(
        HalfDarker(0.0), planes, lambda _network, p: p - np.float32(0.8) * (np.arange(61) % 2), SizeRule()
    )
    assert (adapted.refused, adapted.share, adapted.steps) == ("", 0, 0)
    assert adapted.planes.mean() < 0.6


def test_a_copy_that_did_not_improve_is_not_used(rainy, monkeypatch):
    monkeypatch.setattr(adaptation, "_RATE", 0.0)
    network = HalfDarker()
    adapted = adapt_network(network, rainy, apply, SizeRule(), steps=2)
    np.testing.assert_array_equal(adapted.planes, apply(network, rainy))
    assert "knows such rain (100%" in adapted.refused
    assert adapted.share == 0


def test_held_out_pairs_recognize_a_better_network(rainy):
    # Their truth is the base: what removes less from it has a smaller error.
    pairs = adaptation._Pairs(rainy * np.float32(0.8), np.zeros(rainy.shape[1:], np.float32), SizeRule(), "cpu")
    rng = np.random.default_rng(0)
    assert pairs.error_ratio(HalfDarker(0.05), HalfDarker(0.1), rng) == pytest.approx(0.5, abs=1e-4)


def test_pairs_are_the_base_under_light_of_the_rain(rainy):
    pairs = adaptation._Pairs(rainy, np.full(rainy.shape[1:], 0.1, np.float32), SizeRule(32, 64), "cpu")
    under, clean = pairs.batch(6, 70, np.random.default_rng(0))
    assert under.shape == clean.shape == (6, 3, 96, 96)
    assert (under >= clean - 1e-6).all()
    assert 0.01 < (under - clean).mean() < 0.15
    assert under.max() <= 1


@pytest.fixture
def small(rainy):
    """A small network that already removes something."""
    torch.manual_seed(0)
    network = create_model("gated-unet", channels=[8, 16], blocks=[1, 1])
    nn.init.normal_(network.head.weight, std=0.02)
    nn.init.constant_(network.head.bias, -0.05)
    return network.eval()


def test_the_copy_learns_and_the_network_stays(small, rainy):
    before = {key: value.clone() for key, value in small.state_dict().items()}
    first = adapt_network(small, rainy, apply, SizeRule(4, 4), seed=3, steps=12)
    again = adapt_network(small, rainy, apply, SizeRule(4, 4), seed=3, steps=12)
    other = adapt_network(small, rainy, apply, SizeRule(4, 4), seed=4, steps=12)
    assert first.refused == ""
    assert first.share > 0
    np.testing.assert_array_equal(first.planes, again.planes)
    assert np.abs(first.planes - other.planes).max() > 0
    assert first.planes.min() >= 0
    assert first.planes.max() <= 1
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


def test_derainer_adapts_as_it_derains(small_weight, photo, tmp_path):
    derainer = Derainer(small_weight, device="cpu", precision="fp32", tile=192)
    image = Picture(photo.astype(np.float32) / 255, depth=16)
    plain = derainer(image)
    result, adapted = derainer.adapt(image, steps=3)
    assert result.depth == 16
    assert (np.abs(result.pixels - plain.pixels).max() == 0) == bool(adapted.refused)
    np.testing.assert_array_equal(derainer(image).pixels, plain.pixels)  # the shared network is untouched


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != "sginet"])
def test_every_network_can_be_adapted(name, tmp_path, photo):
    network = create_model(name).eval()
    rule = MODELS[name].size
    side = rule.multiple_of * -(-96 // rule.multiple_of)
    planes = np.ascontiguousarray(photo[:side, :side].transpose(2, 0, 1)).astype(np.float32) / 255
    seen = []
    adapt_network(network, planes, apply, rule, steps=1, on_step=lambda *step: seen.append(step))
    assert seen[-1] == (1, 1)


def test_the_command_reports_the_adaptation(command, tmp_path, photo, monkeypatch):
    monkeypatch.setattr(adaptation, "_STEPS", 2)
    Picture(photo[:96, :96].astype(np.float32) / 255).save(tmp_path / "a.png")
    Picture(np.full((40, 40, 3), 0.5, np.float32)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_text("no image")
    code, out, err = command("run", tmp_path, "--adapt", "--json", "-o", tmp_path / "out")
    assert code == 1
    assert "c.png" in err
    records = [json.loads(line) for line in out.splitlines()]
    for record in (r for r in records if "output" in r):
        assert record["adapted"] == ("refused" not in record)
    assert read(tmp_path / "out" / "a.png").size == (96, 96)
