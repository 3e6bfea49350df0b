"""Training on one rainy image: what comes out, what repeats, what the schedules do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

from derain.errors import InputError
from derain.rain2avoid import Sampler, Settings, adapt, ldgp
from derain.rain2avoid import learner as learning
from derain.rain2avoid.learner import Learner
from derain.rain2avoid.run import derain_with, is_localized, train_set
from derain.rain2avoid.settings import BACKBONES
from derain.rain2avoid.targets import Targets
from support.rainy import raining

pytestmark = pytest.mark.usefixtures("one_thread")


def db(found, truth):
    return -10 * np.log10(np.mean((found - truth) ** 2))


@pytest.fixture(scope="module")
def rainy():
    return raining()


def test_training_removes_rain(rainy):
    image, clean = rainy
    learned = adapt(image, settings=Settings(steps=60))
    assert learned.pixels.shape == image.shape
    assert learned.pixels.dtype == np.float32
    assert learned.pixels.min() >= 0
    assert (learned.pixels <= image).all()
    assert db(learned.pixels, clean) > db(image, clean) + 1.5


@pytest.mark.slow
def test_complete_training_beats_its_own_reference():
    image, clean = raining(60, 0, 320, 480)
    learned = adapt(image)
    assert db(learned.pixels, clean) > db(learned.reference, clean) + 0.5


def test_equal_seeds_give_equal_images_and_leave_the_global_generator_alone(rainy):
    image = rainy[0][:64, :72]
    state = torch.get_rng_state()
    first, again, other = (adapt(image, settings=Settings(steps=4, seed=s)).pixels for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", ["single", "online"])
@pytest.mark.parametrize("schedule", ["fast", "authors"])
def test_every_method_works_in_every_schedule(rainy, method, schedule):
    image = rainy[0][:33, :50]  # no multiple of anything
    seen = []
    settings = Settings(schedule=schedule, backbone="small", steps=3, references=4)
    learned = adapt(image, method=method, settings=settings, on_step=lambda done, total: seen.append((done, total)))
    assert learned.pixels.shape == image.shape
    assert learned.steps == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("backbone", ["unet", "dncnn"])
def test_backbones_can_be_trained(rainy, backbone):
    learned = adapt(rainy[0][:32, :40], settings=Settings(backbone=backbone, steps=1))
    assert np.isfinite(learned.pixels).all()


def test_the_authors_schedule_uses_references_in_the_order_of_their_file_names(rainy):
    image = rainy[0][:40, :40]
    rain_map = ldgp(image)
    settings = Settings(schedule="authors", references=12)
    order = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    references = list(Sampler(image, rain_map).references(12))
    sampled = Targets(image, rain_map, settings, online=False, references=None).sampled()
    for number, found in zip(order, sampled, strict=True):
        np.testing.assert_array_equal(found, references[number].transpose(2, 0, 1))


def test_training_stops_when_the_result_has_converged(rainy, monkeypatch):
    image = rainy[0][:64, :64]
    monkeypatch.setattr(learning, "_CHECK", 2)
    monkeypatch.setattr(learning, "_CONVERGED", 1.0)  # any change counts as converged: the second check stops
    seen = []
    learned = adapt(image, settings=Settings(steps=50), on_step=lambda done, _: seen.append(done))
    assert learned.steps == 4
    assert seen[-1] == 50  # the bar is full


def test_an_image_without_rain_is_returned_unchanged():
    flat = np.full((40, 50, 3), 0.25, np.float32)
    learned = adapt(flat)
    assert learned.steps == 0
    np.testing.assert_array_equal(learned.pixels, flat)


def test_the_callers_references_are_used(rainy):
    image = rainy[0][:40, :48]
    references = [np.zeros_like(image), np.ones_like(image)]
    learned = adapt(image, references=references, settings=Settings(steps=1))
    np.testing.assert_allclose(learned.reference, 0.5)
    with pytest.raises(InputError, match="other sizes"):
        adapt(image, references=[references[0][1:]])


@pytest.mark.parametrize("schedule", ["fast", "authors"])
def test_one_network_for_a_set(schedule):
    images = [raining(seed=s, height=h, width=70)[0] for s, h in ((0, 66), (1, 50))]  # one smaller than a crop
    settings = Settings(schedule=schedule, backbone="small", steps=3, references=3)
    network = train_set([(p, None, None) for p in images], settings)
    assert not network.training
    for image in images:
        assert derain_with(network, image, settings).shape == image.shape


def test_large_images_are_derained_in_tiles_that_agree_with_the_whole(monkeypatch):
    image = raining(height=200, width=210)[0]
    learner = Learner(Settings())
    torch.nn.init.normal_(learner.network.head.weight, std=0.05)
    planes = image.transpose(2, 0, 1)
    whole = learner.derain(planes)
    monkeypatch.setattr(learning, "_TILE", 96)
    # Each tile padded for the network differs from the whole in rare long-range effects only.
    difference = np.abs(learner.derain(planes) - whole)
    assert difference.mean() < 1e-3
    assert difference.max() < 0.05


def test_the_command_line_knows_the_backbones():
    from derain.cli import options

    assert tuple(BACKBONES) == options.BACKBONES


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Settings(schedule="slow"), "unknown schedule"),
        (lambda: Settings(backbone="vgg"), "unknown backbone"),
        (lambda: Settings(steps=0), "at least 1"),
        (lambda: adapt(np.zeros((9, 9, 3), np.uint8), method="double"), "unknown method"),
        (lambda: adapt(np.zeros((9, 9), np.uint8)), "color image"),
        (lambda: train_set([]), "no images"),
    ],
)
def test_impossible_options_are_rejected(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_a_reference_that_removes_from_few_places_is_recognized():
    rainy, _ = raining(seed=1, height=240, width=320)[:2]
    planes = np.ascontiguousarray(rainy.transpose(2, 0, 1)).astype(np.float32)
    even = planes - np.float32(0.1)
    few = planes.copy()
    few[:, :80, :80] -= 0.1  # a twelfth of the image
    assert not is_localized(planes, even.transpose(1, 2, 0))
    assert is_localized(planes, few.transpose(1, 2, 0))
    assert not is_localized(planes[:, :60, :60], few[:, :60, :60].transpose(1, 2, 0)), "too small to tell"


def test_a_rain_free_photograph_is_returned_unchanged():
    rain_free = np.ascontiguousarray(data.chelsea()[:240, :320])
    learned = adapt(rain_free, settings=Settings(steps=2))
    assert "few places" in learned.refused
    assert learned.steps == 0
    np.testing.assert_allclose(learned.pixels, rain_free / 255, atol=1e-6)
    trained = adapt(rain_free, settings=Settings(steps=2), rain_map=ldgp(rain_free))
    assert (trained.refused, trained.steps) == ("", 2), "a map from the caller is trusted"
