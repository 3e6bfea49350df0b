"""Weights: the manifest tells the truth, files are checked, fetching works and fails clearly."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import derain
from derain.errors import ModelError
from derain.metrics import psnr
from derain.models import MODELS, create_model
from derain.rain import add_streaks, render, sample_rain
from derain.weights import load_model, locate, manifest, save_file, store

SMALL = {"iterations": 1, "channels": 8}


@pytest.mark.parametrize("name", manifest().models)
def test_shipped_weights_are_what_the_manifest_says(name):
    weight = manifest().models[name]
    path = locate(weight)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == weight.sha256
    assert weight.model in MODELS
    assert weight.speed in ("fast", "medium", "slow")
    assert weight.figures
    for text in (weight.summary, weight.license, weight.data, weight.recipe):
        assert len(text) > 10
    network = load_model(name)
    assert not network.training


def test_the_default_model_takes_rain_away(photo):
    """On rain that this test makes, far above chance: it is trained weights that ship, not noise."""
    derainer = derain.Derainer("default", device="cpu", precision="fp32")
    gains = []
    for preset, seed in (("light", 2), ("light", 5), ("light", 7), ("heavy", 2), ("heavy", 5)):
        rng = np.random.default_rng(seed)
        rain = render(sample_rain(preset, rng), photo.shape[:2], rng)
        rainy = (add_streaks(photo / 255, rain) * 255 + 0.5).astype(np.uint8)
        gains.append((psnr(derainer(rainy), photo) - psnr(rainy, photo)).item())
    assert min(gains) > 2
    assert psnr(derainer(photo), photo).item() > 33, "a dry photograph must stay as it is"


def test_the_default_model_survives_bf16(photo):
    """Stem and head stay exact under autocast; without that, heavy rain loses 0.08 dB."""
    outputs = []
    for precision in ("fp32", "bf16"):
        derainer = derain.Derainer("default", device="cpu", precision=precision)
        outputs.append(torch.from_numpy(derainer(photo[60:156, 60:156] / np.float32(255))).permute(2, 0, 1))
    assert psnr(*outputs, "float").item() > 60


def test_batch_normalization_survives_half_precision(tmp_path):
    """A long training counts further than float16 can."""
    network = derain.create_model("jdnet", units=1)
    norm = network.units[0].attention.norm_in
    norm.num_batches_tracked.fill_(1_234_567)
    norm.running_var.uniform_(0.1, 9)
    save_file(network, tmp_path / "x.safetensors", model="jdnet", settings={"units": 1})
    loaded = load_model(tmp_path / "x.safetensors").units[0].attention.norm_in
    assert loaded.num_batches_tracked == 1_234_567
    torch.testing.assert_close(loaded.running_var, norm.running_var, rtol=1e-3, atol=0)


def test_aliases_and_listing():
    assert derain.list_models()[0] == "default"
    assert manifest().find("default").name in manifest().models
    with pytest.raises(ModelError, match="choose one of default"):
        manifest().find("nope")


def test_the_wheels_weights_are_small():
    files = (Path(store.__file__).parent / "files").iterdir()
    assert sum(f.stat().st_size for f in files) < 22e6  # the wheel is to stay below 25 MB


def test_files_describe_themselves(tmp_path):
    network = derain.create_model("prenet", iterations=2, channels=8)
    path = tmp_path / "mine.safetensors"
    digest = save_file(network, path, model="prenet", settings={"iterations": 2, "channels": 8}, half=False)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    for name in (path, str(path)):
        again = load_model(name)
        for key, value in network.state_dict().items():
            assert torch.equal(again.state_dict()[key], value)


def test_an_average_of_weights(tmp_path, command):
    for name, model, settings in (
        ("a", "prenet", {"iterations": 2}),
        ("b", "prenet", {"iterations": 2}),
        ("c", "dncnn", {}),
    ):
        network = create_model(model, **settings)
        save_file(network, tmp_path / f"{name}.safetensors", model=model, settings=settings, half=False)
    files = [tmp_path / f"{name}.safetensors" for name in "abc"]
    code, out, _ = command(
        "models", "average", *files[:2], "--shares", "3,1", "--fp32", "-o", tmp_path / "new.safetensors"
    )
    assert code == 0
    assert "sha256" in out
    first, second, made = (load_model(file).state_dict() for file in (*files[:2], tmp_path / "new.safetensors"))
    for name, value in made.items():
        torch.testing.assert_close(value, 0.75 * first[name] + 0.25 * second[name])
    assert store.file_settings(tmp_path / "new.safetensors") == {"iterations": 2}
    for arguments, word in (
        ([files[0], files[2]], "another shape"),
        ([files[0]], "two or more"),
        ([*files[:2], "--shares", "1"], "two or more"),
        ([*files[:2], "--shares", "half"], "not numbers"),
        ([*files[:2], "--shares", "nan,1"], "two or more"),
    ):
        code, _, err = command("models", "average", *arguments, "-o", tmp_path / "other.safetensors")
        assert (code, word in err) == (1, True), err
    code, _, err = command("models", "average", *files[:2], "-o", tmp_path / "new.safetensors")
    assert (code, "--overwrite" in err) == (1, True)
    assert command("models", "average", *files[:2], "-o", tmp_path / "folder" / "new.safetensors")[0] == 0
    (tmp_path / "file").touch()
    code, _, err = command("models", "average", *files[:2], "-o", tmp_path / "file" / "new.safetensors")
    assert (code, "cannot be written" in err) == (1, True)


def test_unfit_files_are_told(tmp_path):
    from safetensors.torch import save_file as raw

    raw({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(ModelError, match="does not name its network"):
        load_model(tmp_path / "plain.safetensors")
    raw({"a": torch.zeros(1)}, tmp_path / "wrong.safetensors", metadata={"model": "prenet"})
    with pytest.raises(ModelError, match="do not fit prenet"):
        load_model(tmp_path / "wrong.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("half", [True, False])
def test_weights_that_are_not_finite_are_not_loaded(tmp_path, value, half, command):
    """They would give black or white images."""
    from safetensors.torch import load_file
    from safetensors.torch import save_file as raw

    path = tmp_path / "x.safetensors"
    save_file(create_model("prenet", iterations=1, channels=8), path, model="prenet", settings=SMALL, half=half)
    state = load_file(path)
    state["head.weight"][0, 1, 2, 1] = value
    raw(state, path, metadata={"model": "prenet", "settings": json.dumps(SMALL)})
    for use in (load_model, derain.Derainer):
        with pytest.raises(ModelError, match=r"NaN or infinite values in head\.weight") as caught:
            use(path)
        assert "\n" not in str(caught.value)
    code, _, err = command("models", "average", path, path, "-o", tmp_path / "new.safetensors")
    assert (code, "NaN or infinite" in err, (tmp_path / "new.safetensors").exists()) == (1, True, False)


def test_weights_that_are_not_finite_or_too_large_are_not_written(tmp_path):
    network, path = create_model("prenet", **SMALL), tmp_path / "x.safetensors"
    with torch.no_grad():
        network.head.weight[0, 0, 0, 0] = 70_000  # float16 ends at 65504
    with pytest.raises(ModelError, match=r"head\.weight has values beyond float16.*--fp32"):
        save_file(network, path, model="prenet", settings=SMALL)
    assert not path.exists()
    save_file(network, path, model="prenet", settings=SMALL, half=False)
    assert load_model(path).head.weight[0, 0, 0, 0] == 70_000
    with torch.no_grad():
        network.head.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match="NaN or infinite"):
        save_file(network, tmp_path / "y.safetensors", model="prenet", settings=SMALL, half=False)
    assert not (tmp_path / "y.safetensors").exists()


def test_a_wrapped_network_is_written_under_its_own_names(tmp_path):
    """``torch.compile`` and ``DataParallel`` insert names."""

    class Compiled(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self._orig_mod = inner

    network = create_model("prenet", **SMALL)
    for number, wrapped in enumerate((Compiled(network), torch.nn.DataParallel(Compiled(network)))):
        save_file(wrapped, tmp_path / f"{number}.safetensors", model="prenet", settings=SMALL, half=False)
        assert torch.equal(load_model(tmp_path / f"{number}.safetensors").head.weight, network.head.weight)


@pytest.fixture
def remote(tmp_path, monkeypatch, web) -> store.PretrainedModel:
    """A weight that is not shipped but lies on the local server."""
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    data = b"weights" * 100
    (web[0] / "far.safetensors").write_bytes(data)
    return replace(
        next(iter(manifest().models.values())),
        name="far",
        file="far.safetensors",
        sha256=hashlib.sha256(data).hexdigest(),
        url=f"{web[1]}/far.safetensors",
    )


def test_fetching_keeps_and_checks_the_file(remote, tmp_path):
    path = locate(remote)
    assert path.is_relative_to(tmp_path / "home")
    (tmp_path / "www" / "far.safetensors").unlink()
    assert locate(remote) == path, "a kept file needs no server"
    path.write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot fetch"):
        locate(remote)


def test_a_wrong_file_is_refused(remote, tmp_path):
    (tmp_path / "www" / "far.safetensors").write_bytes(b"something else")
    with pytest.raises(ModelError, match="sha256 differs"):
        locate(remote)
    assert not (tmp_path / "home" / "weights" / "far.safetensors").exists()


def test_being_offline_is_told(remote):
    with pytest.raises(ModelError, match=r"cannot fetch .*put the file at"):
        locate(replace(remote, url="http://127.0.0.1:9/far.safetensors"))
    with pytest.raises(ModelError, match="missing; reinstall"):
        locate(replace(remote, url=""))
