"""The pack and the script for a CUDA machine, end to end at toy size on the CPU."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from derain import create_model, load_model
from derain.weights import save_file

ROOT = Path(__file__).parents[2]
SETTINGS = {"channels": [8, 12], "blocks": [1, 1]}


def run(script: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    command = [sys.executable] if script.endswith(".py") else ["bash"]
    call = [*command, str(ROOT / "scripts" / script), *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    for name in ("clean", "layers", "rain/input", "rain/target"):
        (folder / name).mkdir(parents=True)
    photos = [data.astronaut(), data.chelsea(), data.coffee()]
    for number, photo in enumerate(photos):
        cv2.imwrite(str(folder / f"clean/{number}.png"), photo[..., ::-1])
    cv2.imwrite(str(folder / "clean/small.png"), photos[0][:100, :100])
    layer = np.zeros((300, 320), np.uint8)
    layer[:, ::17] = 90
    cv2.imwrite(str(folder / "layers/0.png"), layer)
    for number, photo in enumerate(photos):
        clean = photo[:96, :112]
        cv2.imwrite(str(folder / f"rain/target/{number}.png"), clean)
        cv2.imwrite(
            str(folder / f"rain/input/{number}.png"), np.minimum(clean.astype(int) + layer[:96, :112, None], 255)
        )
    torch.manual_seed(0)
    save_file(
        create_model("gated-unet", **SETTINGS), folder / "start.safetensors", model="gated-unet", settings=SETTINGS
    )
    out = run(
        "make_training_pack.py", "--clean", folder / "clean", "--layers", folder / "layers", "--validation",
        folder / "rain", "--pairs", 2, "--start", folder / "start.safetensors", "--out", folder / "pack",
    )  # fmt: skip
    assert "3 of 4 photographs, 1 of 1 layers" in out
    return folder / "pack"


def test_a_pack_keeps_within_its_bytes(pack, tmp_path):
    files = [file for file in pack.rglob("*") if file.is_file()]
    assert {file.relative_to(pack).parts[0] for file in files} == {"clean", "layers", "validation", "start.safetensors"}
    whole = sum(file.stat().st_size for file in files)
    folder = pack.parent
    smaller = whole * 0.8 / 1e6
    run(
        "make_training_pack.py", "--clean", folder / "clean", "--layers", folder / "layers", "--validation",
        folder / "rain", "--pairs", 2, "--start", folder / "start.safetensors", "--out", tmp_path / "pack",
        "--megabytes", smaller,
    )  # fmt: skip
    assert sum(file.stat().st_size for file in (tmp_path / "pack").rglob("*") if file.is_file()) <= smaller * 1e6


def test_training_from_a_pack(pack, tmp_path):
    # Twice as wide as the start: it must begin as the same function.
    larger = "model.settings={channels: [12, 16], blocks: [2, 1]}"
    out = run(
        "train_on_gpu.sh", 0.2, "--pack", pack, "--out", tmp_path / "run", "--sizes", 1, 2, "--patch", 64,
        "--workers", 0, "--no-compile", "--probe-seconds", 0.2, "--reserve", 1, "--set", larger,
    )  # fmt: skip
    for part in ("smoke test: loss", "loader:", "step, batch 2, eager", "training with batches of", "end: rain"):
        assert part in out
    assert (tmp_path / "run" / "log.txt").read_text(encoding="utf-8").strip() == out.strip()
    network = load_model(tmp_path / "run" / "weights.safetensors")
    assert network.channels == (12, 16)
    with (tmp_path / "run" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(steps)
    assert steps[-1] > 3
    start = next(float(row["psnr"]) for row in rows if row["psnr"])
    assert start == pytest.approx(_psnr(pack, load_model(pack / "start.safetensors")), abs=0.05)


def _psnr(pack: Path, network: torch.nn.Module) -> float:
    """By hand: luma of BT.601, whole images whose sides are multiples of 16."""
    found = []
    for file in sorted((pack / "validation/rain/input").iterdir()):
        rainy, clean = (cv2.imread(str(f))[..., ::-1] for f in (file, pack / "validation/rain/target" / file.name))
        tensor = torch.from_numpy(np.ascontiguousarray(rainy)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            derained = network(tensor)[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
        error = (derained - clean) @ np.array([65.481, 128.553, 24.966]) / 255
        found.append(10 * np.log10(255**2 / np.mean(error**2)))
    return float(np.mean(found))
