"""Learning from one rainy picture: what comes out, what repeats, what the schedules do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

from derain.errors import InputError
from derain.rain2avoid import Sampler, Settings, adapt, ldgp
from derain.rain2avoid.sdrl import BACKBONES, Learner, Targets, derain_with, is_localized, train_set
from support.rainy import raining

pytestmark = pytest.mark.usefixtures("one_thread")


def db(found, truth):
    return -10 * np.log10(np.mean((found - truth) ** 2))


@pytest.fixture(scope="module")
def rainy():
    return raining()


def test_learning_takes_rain_away(rainy):
    picture, clean = rainy
    learned = adapt(picture, settings=Settings(steps=60))
    assert learned.pixels.shape == picture.shape
    assert learned.pixels.dtype == np.float32
    assert learned.pixels.min() >= 0
    assert (learned.pixels <= picture).all()
    assert db(learned.pixels, clean) > db(picture, clean) + 1.5


@pytest.mark.slow
def test_learning_to_the_end_beats_its_own_teacher():
    picture, clean = raining(60, 0, 320, 480)
    learned = adapt(picture)
    assert db(learned.pixels, clean) > db(learned.reference, clean) + 0.5


def test_equal_seeds_give_equal_pictures_and_leave_chance_alone(rainy):
    picture = rainy[0][:64, :72]
    state = torch.get_rng_state()
    first, again, other = (adapt(picture, settings=Settings(steps=4, seed=s)).pixels for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", ["single", "online"])
@pytest.mark.parametrize("schedule", ["fast", "authors"])
def test_every_method_learns_in_every_schedule(rainy, method, schedule):
    picture = rainy[0][:33, :50]  # no multiple of anything
    seen = []
    settings = Settings(schedule=schedule, backbone="small", steps=3, references=4)
    learned = adapt(picture, method=method, settings=settings, on_step=lambda done, total: seen.append((done, total)))
    assert learned.pixels.shape == picture.shape
    assert learned.steps == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("backbone", ["unet", "dncnn"])
def test_backbones_learn(rainy, backbone):
    learned = adapt(rainy[0][:32, :40], settings=Settings(backbone=backbone, steps=1))
    assert np.isfinite(learned.pixels).all()


def test_the_authors_schedule_learns_references_in_the_order_of_their_names(rainy):
    picture = rainy[0][:40, :40]
    rain_map = ldgp(picture)
    settings = Settings(schedule="authors", references=12)
    order = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]
    made = list(Sampler(picture, rain_map).references(12))
    drawn = Targets(picture, rain_map, settings, online=False, references=None).drawn()
    for number, found in zip(order, drawn, strict=True):
        np.testing.assert_array_equal(found, made[number].transpose(2, 0, 1))


def test_learning_stops_when_the_picture_stands_still(rainy, monkeypatch):
    from derain.rain2avoid import sdrl

    picture = rainy[0][:64, :64]
    monkeypatch.setattr(sdrl, "_CHECK", 2)
    monkeypatch.setattr(sdrl, "_STILL", 1.0)  # anything counts as still: the second look ends it
    seen = []
    learned = adapt(picture, settings=Settings(steps=50), on_step=lambda done, _: seen.append(done))
    assert learned.steps == 4
    assert seen[-1] == 50  # the bar is full


def test_a_picture_without_rain_comes_back_as_it_was():
    flat = np.full((40, 50, 3), 0.25, np.float32)
    learned = adapt(flat)
    assert learned.steps == 0
    np.testing.assert_array_equal(learned.pixels, flat)


def test_given_references_are_what_is_learned(rainy):
    picture = rainy[0][:40, :48]
    given = [np.zeros_like(picture), np.ones_like(picture)]
    learned = adapt(picture, references=given, settings=Settings(steps=1))
    np.testing.assert_allclose(learned.reference, 0.5)
    with pytest.raises(InputError, match="other sizes"):
        adapt(picture, references=[given[0][1:]])


@pytest.mark.parametrize("schedule", ["fast", "authors"])
def test_one_network_for_a_set(schedule):
    pictures = [raining(seed=s, height=h, width=70)[0] for s, h in ((0, 66), (1, 50))]  # one smaller than a crop
    settings = Settings(schedule=schedule, backbone="small", steps=3, references=3)
    network = train_set([(p, None, None) for p in pictures], settings)
    assert not network.training
    for picture in pictures:
        assert derain_with(network, picture, settings).shape == picture.shape


def test_large_pictures_are_derained_in_tiles_that_agree_with_the_whole(monkeypatch):
    from derain.rain2avoid import sdrl

    picture = raining(height=200, width=210)[0]
    learner = Learner(Settings())
    torch.nn.init.normal_(learner.network.head.weight, std=0.05)
    planes = picture.transpose(2, 0, 1)
    whole = learner.derain(planes)
    monkeypatch.setattr(sdrl, "_TILE", 96)
    # Each tile padded for the network differs from the whole in rare far influences alone.
    difference = np.abs(learner.derain(planes) - whole)
    assert difference.mean() < 1e-3
    assert difference.max() < 0.05


def test_the_commands_words_are_the_modules():
    from derain.cli import options

    assert tuple(BACKBONES) == options.BACKBONES


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Settings(schedule="slow"), "unknown schedule"),
        (lambda: Settings(backbone="vgg"), "unknown backbone"),
        (lambda: Settings(steps=0), "at least 1"),
        (lambda: adapt(np.zeros((9, 9, 3), np.uint8), method="double"), "unknown method"),
        (lambda: adapt(np.zeros((9, 9), np.uint8)), "color picture"),
        (lambda: train_set([]), "no pictures"),
    ],
)
def test_what_cannot_be_is_told(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_a_reference_that_takes_from_few_places_is_refused():
    rainy, _ = raining(seed=1, height=240, width=320)[:2]
    planes = np.ascontiguousarray(rainy.transpose(2, 0, 1)).astype(np.float32)
    even = planes - np.float32(0.1)
    few = planes.copy()
    few[:, :80, :80] -= 0.1  # a twelfth of the picture
    assert not is_localized(planes, even.transpose(1, 2, 0))
    assert is_localized(planes, few.transpose(1, 2, 0))
    assert not is_localized(planes[:, :60, :60], few[:, :60, :60].transpose(1, 2, 0)), "too small to tell"


def test_a_dry_photograph_is_left_alone():
    dry = np.ascontiguousarray(data.chelsea()[:240, :320])
    learned = adapt(dry, settings=Settings(steps=2))
    assert "few places" in learned.refused
    assert learned.steps == 0
    np.testing.assert_allclose(learned.pixels, dry / 255, atol=1e-6)
    taught = adapt(dry, settings=Settings(steps=2), rain_map=ldgp(dry))
    assert (taught.refused, taught.steps) == ("", 2), "a map that is given is believed"
