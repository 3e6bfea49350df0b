"""Official checkpoints: every published layout is recognized, hostile files are refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from derain import Derainer, create_model, list_models, load_model
from derain.errors import ModelError
from derain.weights.official import convert_official, import_checkpoint, read_checkpoint, recognize
from support.official import VARIANTS, fake_official

SETTINGS = {
    "sapnet": {},
    "prenet": {},
    "prenet_r": {"shared": True},
    "prn": {"recurrence": "none"},
    "prn_r": {"recurrence": "none", "shared": True},
    "prenet_gru": {"recurrence": "gru", "residual": False},
    "prenet_x": {"sees_rainy": False, "residual": False},
}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_published_layout_is_recognized_and_fits(variant):
    official = fake_official(variant)
    name, settings = recognize(official)
    assert name == ("sapnet" if variant == "sapnet" else "prenet")
    assert settings == SETTINGS[variant]
    network = create_model(name, **settings)
    converted = convert_official(name, official)
    assert len(converted) == len(official)
    network.load_state_dict(converted)
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 16, 16)).isfinite().all()


def test_sapnet_variants_are_told_apart():
    for convolution in ("separable", "split"):
        network = create_model("sapnet", convolution=convolution)
        official = {}
        for key, value in network.state_dict().items():
            head, _, rest = key.partition(".")
            if head == "blocks":
                block, _, rest = rest.partition(".body.")
                official[f"res_conv{int(block) + 1}.{rest}"] = value
        official["conv0.0.weight"] = network.stem.weight
        assert recognize(official) == ("sapnet", {"convolution": convolution})


def conv(x, weight, bias):
    return torch.nn.functional.conv2d(x, weight, bias, padding=1)


def test_gru_and_shared_blocks_compute_the_published_recurrences():
    """Two iterations, written out from the paper's equations for the ablation variants."""
    x = torch.rand(1, 3, 12, 12)
    for variant in ("prenet_gru", "prn_r"):
        w = fake_official(variant)
        name, settings = recognize(w)
        network = create_model(name, iterations=2, **settings)
        network.load_state_dict(convert_official(name, w))

        def layer(key, value, w=w):
            return conv(value, w[f"{key}.weight"], w[f"{key}.bias"])

        out, h = x, torch.zeros(1, 32, 12, 12)
        for _ in range(2):
            y = layer("conv0.0", torch.cat([x, out], 1)).relu()
            if variant == "prenet_gru":
                z = layer("conv_z.0", torch.cat([y, h], 1)).sigmoid()
                r = layer("conv_b.0", torch.cat([y, h], 1)).sigmoid()
                g = layer("conv_g.0", torch.cat([r * h, y], 1)).tanh()
                y = h = (1 - z) * h + z * g
            for block in range(1, 6):
                b = 1 if variant == "prn_r" else block
                y = (y + layer(f"res_conv{b}.2", layer(f"res_conv{b}.0", y).relu()).relu()).relu()
            out = layer("conv.0", y) + (0 if variant == "prenet_gru" else x)
        with torch.inference_mode():
            torch.testing.assert_close(network(x), out, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wrap", ["plain", "module", "net", "params_ema", "safetensors"])
def test_import_makes_a_model_by_name(tmp_path, photo, wrap):
    state = fake_official("prenet_r")
    path = tmp_path / "net_latest.pth"
    if wrap == "safetensors":
        from safetensors.torch import save_file

        path = path.with_suffix(".safetensors")
        save_file(state, path)
    elif wrap == "module":
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    else:
        torch.save({"plain": state}.get(wrap) or {wrap: state, "epoch": 3}, path)
    made = import_checkpoint(path, name="mine", settings={"iterations": 2})
    assert (made.model, made.settings) == ("prenet", {"shared": True, "iterations": 2})
    assert "mine" in list_models()
    network = load_model("mine")
    assert torch.equal(network.head.weight, state["conv.0.weight"])
    assert Derainer("mine")(photo[:32, :32]).shape == (32, 32, 3)
    with pytest.raises(ModelError, match="imported before"):
        import_checkpoint(path, name="mine")
    import_checkpoint(path, name="mine", overwrite=True)


def test_old_format_files_load(tmp_path):
    torch.save(fake_official("prn"), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert import_checkpoint(tmp_path / "old.pth").settings == {"recurrence": "none"}


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_hostile_pickles_are_refused_and_not_run(tmp_path, how):
    path, target = tmp_path / "bad.pth", tmp_path / "owned"
    payload = {**fake_official("prn"), "extra": Hostile(target)}
    if how == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(ModelError, match="not loaded"):
        read_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a readable checkpoint"),
        (b"rubbish" * 99, "not a readable checkpoint|refused"),
        ({"epoch": 3}, "no state dictionary"),
        ({"weird.weight": torch.zeros(2)}, "unknown checkpoint"),
        ({**fake_official("prn"), "surprise": torch.zeros(1)}, "surprise"),
        ({k: v[:3] if k == "conv0.0.bias" else v for k, v in fake_official("prn").items()}, "do not fit prenet"),
    ],
)
def test_unfit_files_are_told_in_one_line(tmp_path, content, words):
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelError, match=words) as caught:
        import_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["default", "sapnet", "a/b", "..", ".hidden"])
def test_names_that_cannot_be(tmp_path, name):
    torch.save(fake_official("prn"), tmp_path / "x.pth")
    with pytest.raises(ModelError, match="cannot be the name"):
        import_checkpoint(tmp_path / "x.pth", name=name)


def test_the_command(command, tmp_path, photo):
    torch.save(fake_official("prenet"), tmp_path / "net_latest.pth")
    code, out, _ = command("models", "import", tmp_path / "net_latest.pth", "--name", "mine", "--set", "iterations=1")
    assert code == 0
    assert "prenet, iterations=1" in out
    assert "mine" in command("models")[1]
    Image.fromarray(photo[:40, :40]).save(tmp_path / "a.png")
    assert command("run", tmp_path / "a.png", "--model", "mine")[0] == 0
    assert np.asarray(Image.open(tmp_path / "a_derained.png")).shape == (40, 40, 3)
    assert command("models", "import", tmp_path / "none.pth")[0] == 1
    assert command("models", "import", tmp_path / "net_latest.pth", "--set", "iterations")[0] == 1
    assert command("models", "import", tmp_path / "net_latest.pth", "--as", "gated-unet")[0] == 1
