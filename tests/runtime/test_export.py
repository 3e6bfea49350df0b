"""Exported files: as torch computes, of any size, without torch, told when something is missing or wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from derain import Derainer, create_model
from derain.errors import DeviceError, ModelError, OutputError
from derain.models import model_info
from derain.runtime.base import Description, read_description
from derain.runtime.export import export_model
from derain.weights import save_file

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def exported(small_weight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "small.onnx"
    assert export_model(small_weight, file) < 1e-4
    return file


@pytest.mark.parametrize("size", [(200, 300), (33, 17), (1, 1)])
def test_an_onnx_file_computes_as_torch_does(small_weight, exported, photo, size):
    image = np.ascontiguousarray(photo[: size[0], : size[1]]) / np.float32(255)
    whole, tiled = (Derainer(exported, tile=tile)(image) for tile in ("auto", 192))
    reference = Derainer(small_weight, precision="fp32")(image)
    np.testing.assert_allclose(whole, reference, atol=1e-4)
    np.testing.assert_allclose(tiled, reference, atol=4e-3)


def test_the_file_alone_tells_sizes_and_memory(small_weight, exported):
    ours, theirs = Derainer(exported), Derainer(small_weight)
    assert ours.info == theirs.info
    assert (ours.runtime.device, ours.runtime.precision) == ("cpu", "fp32")
    assert ours.runtime.description.settings == {"channels": [8, 16], "blocks": [1, 1]}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("prenet", {"iterations": 2, "channels": 8}),
        ("sapnet", {"iterations": 2, "channels": 8}),
        ("jdnet", {"channels": 16, "units": 1, "scales": 3}),
    ],
)
def test_the_papers_networks_export(name, settings, tmp_path):
    save_file(create_model(name, **settings), tmp_path / "x.safetensors", model=name, settings=settings)
    assert export_model(tmp_path / "x.safetensors", tmp_path / "x.onnx") < 1e-4


def test_half_precision_weights_halve_the_file(small_weight, exported, tmp_path):
    assert export_model(small_weight, tmp_path / "half.onnx", precision="fp16") < 2e-3
    # The shape computations and names of so small a network weigh as much as its weights.
    sizes = [file.stat().st_size for file in (exported, tmp_path / "half.onnx")]
    numbers = sum(p.numel() for p in create_model("gated-unet", channels=[8, 16], blocks=[1, 1]).parameters())
    assert sizes[0] - sizes[1] > 1.5 * numbers


def test_an_exported_file_needs_no_torch(exported, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "a.png")
    code = (
        "import sys; from derain.cli.main import main; sys.argv = ['derain', *sys.argv[1:]]\n"
        "try: main()\nfinally: print('torch' in sys.modules)"
    )
    words = ["run", tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", exported, "-q"]
    run = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
    assert Image.open(tmp_path / "b.png").size == (300, 200)


def test_a_weight_is_exported_once_for_another_runtime(small_weight, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path))
    first = Derainer(small_weight, runtime="onnx")
    made = first.file.stat().st_mtime_ns
    assert first.file.parent == tmp_path / "exported"
    assert Derainer(small_weight, runtime="onnx").file.stat().st_mtime_ns == made
    difference = first(photo).astype(int) - Derainer(small_weight, precision="fp32")(photo)
    assert np.abs(difference).max() <= 1


def test_an_openvino_file_computes_as_torch_does(small_weight, exported, photo, tmp_path):
    pytest.importorskip("openvino")
    assert export_model(small_weight, tmp_path / "x.xml", to="openvino") < 2e-4
    reference = Derainer(small_weight, precision="fp32")(photo).astype(int)
    for derainer in (Derainer(tmp_path / "x.xml"), Derainer(exported, runtime="openvino")):
        assert derainer.info == Derainer(small_weight).info
        assert np.abs(derainer(photo) - reference).max() <= 1


def test_signals_survive_two_models_of_openvino(exported):
    """Two cores that go in the order they came leave a freed stack for signals behind: see ``_core``."""
    pytest.importorskip("openvino")
    code = (
        "import os, signal, sys; from derain import Derainer\n"
        "first, second = (Derainer(sys.argv[1], runtime='openvino') for _ in range(2))\n"
        "del first; del second\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(exported)], capture_output=True, text=True)
    assert (run.returncode, run.stdout.strip()) == (0, "handled")


def test_a_file_that_computes_something_else_is_not_kept(tmp_path):
    class Fickle(torch.nn.Module):
        """Differs outside the exporter's trace."""

        def forward(self, rainy):
            return rainy if torch.jit.is_tracing() else rainy + 0.01

    from derain.runtime.export import export

    description = Description("fickle", "prenet", {}, model_info("prenet"))
    with pytest.raises(ModelError, match=r"differs from torch by 0\.01"):
        export(Fickle(), tmp_path / "x.onnx", description)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_nan_is_not_kept(tmp_path):
    class Broken(torch.nn.Module):
        def forward(self, rainy):
            return rainy if torch.jit.is_tracing() else rainy * float("nan")

    from derain.runtime.export import export

    for network in (Broken(), torch.nn.Conv2d(3, 3, 1)):
        for value in network.parameters():
            torch.nn.init.constant_(value, float("nan"))
        with pytest.raises(ModelError, match="differs from torch by nan"):
            export(network, tmp_path / "x.onnx", Description("broken", "prenet", {}, model_info("prenet")))
    assert list(tmp_path.iterdir()) == []


def test_wrong_use_is_rejected(small_weight, exported, tmp_path):
    with pytest.raises(OutputError, match="exists already"):
        export_model(small_weight, exported)
    with pytest.raises(OutputError, match=r"ends in \.onnx"):
        export_model(small_weight, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="exported already"):
        export_model(exported, tmp_path / "x.onnx")
    with pytest.raises(ModelError, match=r"cannot run \.onnx files"):
        Derainer(exported, runtime="torch")
    with pytest.raises(DeviceError, match="unknown runtime"):
        Derainer(small_weight, runtime="abacus")
    with pytest.raises(DeviceError, match="fp32"):
        Derainer(exported, precision="bf16")
    with pytest.raises(ModelError, match="no such model file"):
        Derainer(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"rubbish")
    with pytest.raises(ModelError, match="not a file that ONNX Runtime can run"):
        Derainer(tmp_path / "bad.onnx")


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"info": {}}', '{"info": {"size": {"side": 1}}}'])
def test_a_file_without_a_sound_description_is_rejected(text):
    with pytest.raises(ModelError, match=r"x\.onnx"):
        read_description(text, Path("x.onnx"))


def test_a_missing_runtime_is_one_line(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match=r"pip install 'derain\[onnx\]'"):
        Derainer(exported)


def test_the_command(command, small_weight, tmp_path, photo):
    code, out, _ = command("export", small_weight, "-o", tmp_path / "x.onnx")
    assert code == 0
    assert "largest difference to torch" in out
    Image.fromarray(photo).save(tmp_path / "a.png")
    assert command("run", tmp_path / "a.png", "--model", tmp_path / "x.onnx")[0] == 0
    assert command("export", small_weight, "--to", "paper")[0] == 2


def test_runtimes_are_measured_side_by_side(command, small_weight, photo, tmp_path, monkeypatch):
    """What ``auto`` may pick computes the same: by less than 0.02 dB."""
    pytest.importorskip("openvino")
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    for kind, image in (("input", photo // 2 + 60), ("target", photo)):
        (tmp_path / "set" / kind).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "set" / kind / "1.png")
    words = ["--data", tmp_path / "set", "--model", small_weight, "--runtime", "torch,onnx,openvino"]
    code, out, _ = command("eval", *words, "--precision", "fp32", "--json", tmp_path / "x.json")
    assert code == 0
    assert "onnx" in out
    rows = json.loads((tmp_path / "x.json").read_text())["summary"]
    assert [row["model"] for row in rows] == [f"{small_weight}, {r}" for r in ("torch", "onnx", "openvino")]
    assert max(row["psnr"] for row in rows) - min(row["psnr"] for row in rows) < 0.02


def test_a_runtime_that_cannot_learn_says_so(small_weight, tmp_path, command, photo):
    Image.fromarray(photo).save(tmp_path / "a.png")
    derainer = Derainer(small_weight, device="cpu", runtime="onnx")
    with pytest.raises(DeviceError, match="only torch can train"):
        derainer.adapt(tmp_path / "a.png")
    code, _, err = command("run", tmp_path / "a.png", "--adapt", "--runtime", "onnx")
    assert code == 1
    assert err.count("only torch can train") == 1
    assert not (tmp_path / "a_derained.png").exists()
