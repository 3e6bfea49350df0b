"""``derain eval``: numbers that agree with the metrics, in every output."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from derain import Derainer, load_model
from derain.cli import options
from derain.metrics import PROTOCOLS, UNIQUE, BrisqueModel, brisque, psnr, ssim, unique
from derain.rain import add_streaks, render, sample_rain
from support.brisque import installed_package, libsvm, tensor
from support.official import fake_official


@pytest.fixture(scope="module")
def dataset(photo, tmp_path_factory) -> Path:
    """Three pairs of 96×128."""
    root = tmp_path_factory.mktemp("set")
    for n in (1, 2, 10):
        clean = photo[n * 5 : n * 5 + 96, :128]
        rng = np.random.default_rng(n)
        rainy = add_streaks(clean / 255, render(sample_rain("light", rng), clean.shape[:2], rng))
        for kind, image in (("input", (rainy * 255 + 0.5).astype(np.uint8)), ("target", clean)):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(image).save(root / kind / f"{n}.png")
    return root


def test_protocol_names_of_the_command_are_the_metrics():
    assert tuple(PROTOCOLS) == options.PROTOCOLS


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_is_scored(command, dataset, small_weight, tmp_path, protocol):
    file = tmp_path / "out.json"
    code, out, err = command("eval", "--model", small_weight, "--data", dataset, "--protocol", protocol, "--json", file)
    assert (code, err) == (0, "")
    assert protocol in out
    result = json.loads(file.read_text())
    assert result["protocol"]["name"] == protocol
    assert [i["name"] for i in result["images"]] == ["1", "2", "10"]
    rainy, clean = (np.asarray(Image.open(dataset / kind / "2.png")) for kind in ("input", "target"))
    derained = Derainer(small_weight)(rainy.astype(np.float32) / 255)
    pair = [torch.from_numpy(p).permute(2, 0, 1)[None] for p in (derained, clean / 255)]
    assert result["images"][1]["psnr"] == pytest.approx(psnr(*pair, protocol).item(), abs=1e-4)
    assert result["images"][1]["ssim"] == pytest.approx(ssim(*pair, protocol).item(), abs=1e-5)
    summary = result["summary"][0]
    assert {"model", "data", "n", "psnr", "ssim", "seconds"} <= summary.keys()
    values = [i["psnr"] for i in result["images"]]
    assert summary["psnr"] == pytest.approx(np.mean(values))
    assert summary["psnr_standard_error"] == pytest.approx(np.std(values, ddof=1) / 3**0.5)
    assert len(summary["model_sha256"]) == len(summary["data_sha256"]) == 64


@pytest.mark.parametrize("quantizer", [None, "round", "truncate"])
def test_rgb_is_a_direct_computation_on_truncated_files(command, dataset, small_weight, tmp_path, quantizer):
    """SAPNet's ``test.py`` writes ``numpy.uint8(255 * x)``; its metrics script reads these files."""
    file, option = tmp_path / "x.json", () if quantizer is None else ("--quantizer", quantizer)
    code, out, _ = command(
        "eval", "--model", small_weight, "--data", dataset, "--protocol", "rgb", *option, "--json", file
    )
    assert code == 0
    assert f"results {quantizer or 'truncate'}" in out.replace("rounded", "round")
    result = json.loads(file.read_text())
    assert result["protocol"]["quantizer"] == (quantizer or "truncate")
    derainer = Derainer(small_weight)
    for found in result["images"]:
        rainy, clean = (np.asarray(Image.open(dataset / kind / f"{found['name']}.png")) for kind in ("input", "target"))
        floats = np.clip(derainer(rainy / np.float32(255)), 0, 1)
        saved = np.rint(255 * floats).astype(np.uint8) if quantizer == "round" else np.uint8(255 * floats)
        assert found["psnr"] == pytest.approx(peak_signal_noise_ratio(clean, saved), abs=1e-6)
        options_ = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
        full = structural_similarity(clean, saved, channel_axis=2, full=True, truncate=3.5, **options_)[1]
        assert found["ssim"] == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)


def test_sapnets_checkpoint_scores_as_the_files_that_its_script_writes(command, photo, tmp_path, monkeypatch):
    """An official file, imported; the direct computation is the authors' ``test.py`` and metrics."""
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    state = {f"module.{key}": value for key, value in fake_official("sapnet").items()}
    torch.save(state, tmp_path / "net_latest.pth")
    clean = np.ascontiguousarray(photo[:48, :64])
    rainy = np.clip(clean + np.random.default_rng(0).normal(0, 9, clean.shape), 0, 255).astype(np.uint8)
    for name, image in (("rain-001", rainy), ("norain-001", clean)):
        (tmp_path / "Rain100H").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "Rain100H" / f"{name}.png")
    assert command("models", "import", tmp_path / "net_latest.pth", "--set", "iterations=2")[0] == 0
    arguments = ("eval", "--model", "net_latest", "--data", tmp_path / "Rain100H", "--precision", "fp32")
    assert command(*arguments, "--protocol", "rgb", "--json", tmp_path / "x.json")[0] == 0
    network = load_model("net_latest")
    with torch.no_grad():
        output = network(torch.from_numpy(np.float32(rainy) / 255).permute(2, 0, 1)[None]).clamp(0, 1)
    written = np.uint8(255 * output[0].permute(1, 2, 0).numpy())
    (row,) = json.loads((tmp_path / "x.json").read_text())["images"]
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(clean, written), abs=1e-6)


def test_folders_and_models_are_one_table(command, dataset, small_weight, tmp_path):
    for method, kind in (("sapnet", "input"), ("prenet", "target")):
        shutil.copytree(dataset / kind, tmp_path / method / "Rain100L")
    arguments = ["eval", "--data", dataset, "--protocol", "rgb", "--json", tmp_path / "x.json"]
    for results in (tmp_path / "sapnet/Rain100L", tmp_path / "prenet/Rain100L", f"rainy={dataset / 'input'}"):
        arguments += ["--results", results]
    code, out, err = command(*arguments, "--results", tmp_path / "none", "--model", small_weight)
    assert code == 1
    assert err.count("\n") == 1
    assert "none: no such folder" in err
    rows = json.loads((tmp_path / "x.json").read_text())["summary"]
    assert [Path(row["model"]).name for row in rows] == ["Rain100L", "Rain100L", "rainy", small_weight.name]
    assert rows[0]["psnr"] == rows[2]["psnr"] == rows[0]["psnr_rainy"]
    assert rows[1]["psnr_infinite"] == 3
    assert "sapnet/Rain100L" in out
    assert "prenet/Rain100L" in out


def test_saved_results_score_the_same_as_the_model(command, dataset, small_weight, tmp_path):
    arguments = ("eval", "--data", dataset, "-q", "--protocol", "rgb")
    command(*arguments, "--model", small_weight, "--save-images", tmp_path / "kept", "--json", tmp_path / "a.json")
    saved = next(p.parent for p in (tmp_path / "kept").rglob("1.png"))
    command(*arguments, "--results", saved, "--json", tmp_path / "b.json")
    a, b = (json.loads((tmp_path / f).read_text()) for f in ("a.json", "b.json"))
    assert [i["psnr"] for i in a["images"]] == pytest.approx([i["psnr"] for i in b["images"]])
    assert a["summary"][0]["data_sha256"] == b["summary"][0]["data_sha256"]
    assert b["summary"][0]["seconds"] is None


def test_perfect_results_are_infinite_and_say_so(command, dataset, tmp_path):
    code, out, _ = command("eval", "--results", dataset / "target", "--data", dataset, "--json", tmp_path / "a.json")
    assert code == 0
    assert "∞" in out
    result = json.loads((tmp_path / "a.json").read_text())
    assert result["summary"][0]["psnr"] is None
    assert result["summary"][0]["psnr_infinite"] == 3
    assert result["summary"][0]["ssim"] == pytest.approx(1)


def test_csv_and_report(command, dataset, small_weight, tmp_path):
    files = tmp_path / "a.csv", tmp_path / "a.html"
    arguments = ("eval", "--data", dataset, "--model", small_weight, "--csv", files[0], "--report", files[1])
    assert command(*arguments)[0] == 0
    rows = list(csv.DictReader(files[0].open()))
    assert [r["image"] for r in rows] == ["1", "2", "10"]
    page = files[1].read_text()
    assert page.count("<img") == 9
    assert page.count("<figure>") == 3
    assert "http" not in page
    code, _, err = command(*arguments)
    assert code == 1
    assert "exists already" in err


def test_faults_are_reported_and_the_rest_is_scored(command, dataset, small_weight, tmp_path, photo):
    import shutil

    root = tmp_path / "set"
    shutil.copytree(dataset, root)
    (root / "input" / "3.png").write_bytes(b"")
    Image.fromarray(photo[:50, :50]).save(root / "target" / "3.png")
    Image.fromarray(photo[:50, :50]).save(root / "input" / "9.png")
    file = tmp_path / "a.json"
    code, _, err = command(
        "eval", "--data", root, "--data", tmp_path / "none", "--model", f"{small_weight},nope", "--json", file
    )
    assert code == 1
    assert "warning: " in err
    for words in ("3.png: is empty", "no such folder", "unknown model 'nope'"):
        assert words in err
    assert json.loads(file.read_text())["summary"][0]["n"] == 3
    assert command("eval", "--data", root, "--protocol", "magic")[0] == 2


def test_niqe_is_measured_on_request(command, tmp_path, photo, small_weight):
    for kind in ("input", "target"):
        (tmp_path / kind).mkdir()
        Image.fromarray(photo).save(tmp_path / kind / "1.png")
    file = tmp_path / "a.json"
    arguments = ("eval", "--data", tmp_path, "--results", tmp_path / "target", "--metrics", "psnr,niqe", "--json", file)
    assert command(*arguments)[0] == 0
    from derain.metrics import niqe

    expected = niqe(torch.from_numpy(photo).permute(2, 0, 1) / 255)
    assert json.loads(file.read_text())["summary"][0]["niqe"] == pytest.approx(expected, rel=1e-4)
    assert command("eval", "--data", tmp_path, "--metrics", "beauty")[0] == 2


def test_brisque_of_the_package_and_of_a_file(command, dataset, tmp_path):

    file = libsvm(tmp_path)
    arguments = ("--results", dataset / "target", "--metrics", "brisque", "--brisque-model", file)
    code, out, err = command("eval", "--data", dataset, *arguments, "--json", tmp_path / "x.json")
    assert (code, err) == (0, "")
    assert "BRISQUE" in out
    result = json.loads((tmp_path / "x.json").read_text())
    image = tensor(np.asarray(Image.open(dataset / "target" / "2.png")))
    assert result["images"][1]["brisque"] == pytest.approx(brisque(image))
    assert result["images"][1]["brisque_file"] == pytest.approx(brisque(image, BrisqueModel.load(file)))
    assert len(result["metric_files"]["allmodel"]) == 64


def test_unique_of_a_file(command, dataset, tmp_path):
    torch.manual_seed(0)
    network = UNIQUE().eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    arguments = ("eval", "--data", dataset / "input", "--layout", "real", "--results", dataset / "target")
    code, out, err = command(*arguments, "--unique-model", tmp_path / "model.pt", "--json", tmp_path / "x.json")
    assert (code, err) == (0, "")
    assert "UNIQUE" in out
    result = json.loads((tmp_path / "x.json").read_text())
    image = tensor(np.asarray(Image.open(dataset / "target" / "2.png")))
    assert result["images"][1]["unique"] == pytest.approx(unique(image, network), rel=1e-4)
    assert set(result["metric_files"]) == {"model.pt"}


def test_brisque_of_the_installed_package(command, dataset, tmp_path, monkeypatch):
    arguments = ("eval", "--data", dataset, "--results", dataset / "target", "--brisque-model", "auto")
    code, _, err = command(*arguments)
    assert code == 1
    assert "pip install --no-deps brisque" in err
    installed_package(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert command(*arguments, "--json", tmp_path / "x.json")[0] == 0
    result = json.loads((tmp_path / "x.json").read_text())
    model = BrisqueModel.load(tmp_path / "site" / "brisque" / "models" / "svm.txt")
    image = tensor(np.asarray(Image.open(dataset / "target" / "2.png")))
    assert result["images"][1]["brisque_file"] == pytest.approx(brisque(image, model))
    assert set(result["metric_files"]) == {"svm.txt"}


def test_images_without_truth_are_measured_without(command, dataset, tmp_path):
    arguments = ("eval", "--data", dataset / "input", "--layout", "real", "--results", dataset / "target")
    code, _, err = command(*arguments)
    assert code == 1
    assert "--metrics brisque,niqe" in err
    outputs = ("--json", tmp_path / "x.json", "--csv", tmp_path / "x.csv", "--report", tmp_path / "x.html")
    assert command(*arguments, "--metrics", "brisque", *outputs)[0] == 0
    result = json.loads((tmp_path / "x.json").read_text())
    summary = result["summary"][0]
    assert (summary["psnr"], summary["ssim"], summary["psnr_infinite"]) == (None, None, 0)
    assert summary["brisque"] == pytest.approx(np.mean([i["brisque"] for i in result["images"]]))
    row = next(csv.DictReader((tmp_path / "x.csv").open()))
    assert row["psnr"] == ""
    page = (tmp_path / "x.html").read_text()
    assert "Rainy, derained." in page
    assert "nan" not in page.split("base64")[0]


@pytest.mark.parametrize("layout", ["rain-free", "dry"])
def test_images_without_rain_should_stay_as_they_are(command, dataset, tmp_path, layout):
    results = tmp_path / "results"
    shutil.copytree(dataset / "target", results)
    image = np.asarray(Image.open(results / "2.png"))
    Image.fromarray(np.where(image < 128, image + 2, image - 2).astype(np.uint8)).save(results / "2.png")
    arguments = ("eval", "--data", dataset / "target", "--layout", layout, "--results", results, "--protocol", "rgb")
    code, _, err = command(*arguments, "--json", tmp_path / "x.json")
    assert code == 0
    assert err == ("note: `--layout dry` is now `--layout rain-free`\n" if layout == "dry" else "")
    (summary,) = json.loads((tmp_path / "x.json").read_text())["summary"]
    assert summary["psnr_infinite"] == summary["n"] - 1  # the others were not changed
    assert summary["psnr"] == pytest.approx(20 * np.log10(255 / 2))
