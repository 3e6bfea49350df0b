"""Tiles, ensembles and strength: the parts of inference that no network knows of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from derain import Derainer, create_model, tiling
from derain.cli import options
from derain.errors import InputError, ModelError
from derain.inference import ENSEMBLES, TILE_BUDGET, Inference
from derain.runtime.base import UNLISTED
from derain.runtime.load import load_runtime
from derain.runtime.torch import TorchRuntime
from derain.weights import save_file


def tile_difference(weight: Path, image: np.ndarray, side: int) -> np.ndarray:
    whole = Derainer(weight, tile="off", precision="fp32")(image)
    tiled = Derainer(weight, tile=side, precision="fp32")(image)
    return np.abs(whole.astype(int) - tiled)


def test_tiles_agree_with_the_whole(small_weight, photo):
    assert tile_difference(small_weight, np.tile(photo, (2, 2, 1)), 192).max() <= 1


@pytest.mark.parametrize(("name", "bound"), [("prenet", 0.01), ("sapnet", 1.0)])
def test_tiles_of_recurrent_networks_stay_close(name, bound, photo, tmp_path):
    """SAPNet averages over its input: a tile's statistics are not the image's (mean, of 255)."""
    torch.manual_seed(0)
    save_file(create_model(name, iterations=2), tmp_path / "x.safetensors", model=name, settings={"iterations": 2})
    difference = tile_difference(tmp_path / "x.safetensors", photo, 160)
    assert difference.mean() <= bound


def test_the_automatic_tile_bounds_memory(small_weight):
    _, runtime = load_runtime(small_weight)
    inference = Inference(runtime)
    assert inference.tile_for(480, 640) is None
    side = inference.tile_for(4000, 6000)
    assert side is not None
    assert side**2 * inference.info.memory_per_pixel <= TILE_BUDGET


def test_tiles_start_where_the_inner_grids_do(tmp_path, photo, monkeypatch):
    """JDNet takes any size but halves it four times inside."""
    settings = {"units": 1, "attention": "none"}
    save_file(create_model("jdnet", **settings), tmp_path / "x.safetensors", model="jdnet", settings=settings)
    derainer, starts, split = Derainer(tmp_path / "x.safetensors", tile=160), [], tiling.split_axis

    def spy(*arguments):
        spans = split(*arguments)
        starts.extend(span.start for span in spans)
        return spans

    monkeypatch.setattr(tiling, "split_axis", spy)
    derainer(np.tile(photo, (1, 2, 1)))
    assert max(starts) > 0
    assert not any(start % 16 for start in starts)


def test_small_variants_of_a_network_run_larger_images_whole(tmp_path):
    whole = {}
    for width in (1, 8):
        path = tmp_path / f"{width}.safetensors"
        save_file(create_model("sginet", width=width), path, model="sginet", settings={"width": width})
        whole[width] = Inference(load_runtime(path)[1]).tile_for(2000, 3000) is None
    assert whole == {1: True, 8: False}


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_strength_blends_from_the_input_to_the_result(small_weight, photo, kind):
    derainer = Derainer(small_weight, device="cpu", precision="fp32", tile=192)
    top = 1 if kind is np.float32 else np.iinfo(kind).max
    image = (photo / 255 * top).astype(kind)
    full = derainer(image).astype(np.float64)
    assert np.array_equal(derainer(image, strength=0), image)
    assert np.abs(full - image).max() > 0.02 * top
    mixed = derainer(image, strength=0.25).astype(np.float64)
    assert np.abs(mixed - (0.75 * image + 0.25 * full)).max() <= (1e-6 if top == 1 else 0.63)
    with pytest.raises(InputError, match="strength"):
        derainer(image, strength=1.5)


def test_an_ensemble_averages_over_flipped_forms(small_weight, photo):
    plain = Derainer(small_weight)
    unit = photo[:64, :80].astype(np.float32) / 255
    sides = plain(unit) + plain(unit[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(Derainer(small_weight, ensemble=2)(unit), sides / 2, atol=1e-5)
    four = Derainer(small_weight, ensemble=4)
    np.testing.assert_allclose(
        four(unit), (sides + plain(unit[::-1])[::-1] + plain(unit[::-1, ::-1])[::-1, ::-1]) / 4, atol=1e-5
    )
    np.testing.assert_allclose(four(unit[::-1]), four(unit)[::-1], atol=1e-5)
    assert np.abs(four(unit) - plain(unit)).max() > 1e-3
    with pytest.raises(InputError, match="1 or 2 or 4, not 3"):
        Derainer(small_weight, ensemble=3)


def test_the_command_line_knows_the_ensembles(small_weight, photo, tmp_path, command):
    assert ENSEMBLES == options.ENSEMBLES
    Image.fromarray(photo).save(tmp_path / "rainy.png")
    for number in (1, 2):
        out = tmp_path / f"{number}.png"
        arguments = ("run", tmp_path / "rainy.png", "-o", out, "--model", small_weight, "--ensemble", number)
        assert command(*arguments)[0] == 0
        expected = Derainer(small_weight, ensemble=number)(photo)
        np.testing.assert_array_equal(np.asarray(Image.open(out)), expected)
    code, _, err = command("run", tmp_path / "rainy.png", "--ensemble", "3")
    assert (code, "3 is not one of 1, 2, 4" in " ".join(err.split())) == (2, True)


class _Constant:
    """A runtime whose output is one value, at one pixel or everywhere."""

    name, device, precision = "constant", "cpu", "fp32"

    def __init__(self, value: float, *, everywhere: bool = False) -> None:
        self.value, self.everywhere, self.info = value, everywhere, UNLISTED

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        output = batch.copy()
        output[:, :, slice(None) if self.everywhere else -1, -1] = self.value
        return output


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("options", [{}, {"tile": 192}, {"ensemble": 2}])
def test_values_that_are_not_finite_are_an_error(photo, value, options):
    """They would become black or white pixels in integers, and stay in floats."""
    derainer = Derainer("some-name", runtime=_Constant(value), **options)
    for image in (photo, photo / np.float32(255), photo[:, ::-1]):
        with pytest.raises(ModelError, match=r"^some-name: .*NaN or infinite values.*use another model") as caught:
            derainer(image)
        assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(derainer(photo, strength=0), photo)


def test_low_precision_is_named_as_the_cause(photo):
    runtime = _Constant(np.inf)
    runtime.precision = "bf16"
    with pytest.raises(ModelError, match="--precision fp32"):
        Derainer("x", runtime=runtime)(photo)


def test_large_finite_values_are_clamped_as_ever(photo):
    """Their sum overflows, which alone is no error."""
    result = Derainer("x", runtime=_Constant(3e38, everywhere=True))(photo)
    assert (result[:, -1] == 255).all()
    np.testing.assert_array_equal(result[:, :-1], photo[:, :-1])


def test_one_bad_result_does_not_stop_a_batch(small_weight, photo, tmp_path, command, monkeypatch):
    """The network fails for bright images only."""
    run = TorchRuntime.__call__

    def overflow(self, batch):
        return run(self, batch) * (np.nan if batch.mean() > 0.9 else 1)

    monkeypatch.setattr(TorchRuntime, "__call__", overflow)
    for name, image in {"a": photo, "b": np.full_like(photo, 250), "c": photo}.items():
        Image.fromarray(image[:48, :64]).save(tmp_path / f"{name}.png")
    code, _, err = command("run", tmp_path, "-o", tmp_path / "out", "--precision", "fp32")
    assert code == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.png"]
    assert err.count("NaN or infinite") == 1
    assert "small" in err
