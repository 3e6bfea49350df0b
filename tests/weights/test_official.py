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


#: How trainers change a tensor's name, and what they save beside the network.
_WRAPPED = {
    "module": ("module.{}", {}),
    "compiled": ("_orig_mod.{}", {}),
    "compiled-parallel": ("module._orig_mod.{}", {}),
    "parallel-compiled": ("_orig_mod.module.{}", {}),
    "lightning": ("model.{}", {}),
    "lightning-parts": ("model.{}", {"loss.vgg.0.weight": torch.zeros(2), "ema_model.conv.0.bias": torch.ones(3)}),
    "lightning-net": ("net.{}", {"criterion.weight": torch.zeros(2)}),
    "lightning-compiled": ("model._orig_mod.{}", {}),
    "lightning-wrapped": ("model.net.{}", {"model.scale": torch.ones(1)}),
}


def compiled_part(key: str) -> str:
    """The name if a submodule was compiled."""
    outer, _, rest = key.partition(".")
    return f"{outer}._orig_mod.{rest}"


@pytest.mark.parametrize("wrap", [*_WRAPPED, "compiled-part"])
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("variant", ["prenet_gru", "sapnet"])
def test_names_changed_by_trainers_are_restored(tmp_path, wrap, explicit, variant):
    state = fake_official(variant)
    name, others = _WRAPPED.get(wrap, ("", {}))
    wrapped = {name.format(key) if name else compiled_part(key): value for key, value in state.items()}
    torch.save({"epoch": 3, "state_dict": {**others, **wrapped}, "hyper_parameters": {"lr": 0.1}}, tmp_path / "x.ckpt")
    torch.save(state, tmp_path / "plain.pth")
    key = "sapnet" if variant == "sapnet" else "prenet"
    made = import_checkpoint(tmp_path / "x.ckpt", name="wrapped", model=key if explicit else None)
    assert (made.model, made.settings) == (key, SETTINGS[variant])
    plain = load_model_of(import_checkpoint(tmp_path / "plain.pth"))
    assert all(torch.equal(value, plain[name]) for name, value in load_model_of(made).items())


def load_model_of(made) -> dict[str, torch.Tensor]:
    return load_model(made.file).state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".onnx", ".xml"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 123\n", "Git LFS pointer.*git lfs pull"),
        (b"/annex/objects/MD5E-s123--0123.pth\n", "git-annex pointer.*git annex get"),
        (b"<!DOCTYPE html>\n<html><title>Sign in</title>", "web page.*download it again"),
        (b"\xef\xbb\xbf\r\n <HTML lang='en'>Google Drive - Virus scan warning", "web page.*download it again"),
    ],
)
def test_what_only_stands_for_a_checkpoint_is_named(tmp_path, content, words, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(content)
    uses = [import_checkpoint] if suffix == ".pth" else [import_checkpoint, Derainer]
    for use in uses if suffix in (".pth", ".safetensors") else [Derainer]:
        pytest.importorskip({".onnx": "onnxruntime", ".xml": "openvino"}.get(suffix, "torch"))
        with pytest.raises(ModelError, match=rf"x\{suffix}: a {words}") as caught:
            use(path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "home" / "imported").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_not_finite_are_not_imported(tmp_path, value, suffix):
    state = fake_official("prn")
    state["conv0.0.weight"][3, 2, 1, 0] = value
    path = tmp_path / f"x{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}}, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    with pytest.raises(ModelError, match=r"NaN or infinite values in .*conv0\.0\.weight \(1 of 24 tensors\)") as caught:
        import_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "home" / "imported").exists()


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
