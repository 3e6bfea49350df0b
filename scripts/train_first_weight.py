"""Train the first default weight: a plain script, until the training system replaces it.

    python scripts/train_first_weight.py --data ../shared/data --out runs/first --minutes 100

Rains on clean backgrounds live and trains a gated U-Net with L1 and AdamW, a cosine over the time
budget, growing patches and a moving average of the weights.
Writes ``last.pt`` every few minutes (``--resume`` goes on from it) and ``ema.safetensors``.
The schedule follows elapsed training time, so the number of steps depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from derain import create_model
from derain.data.layouts import read_rgb
from derain.data.patches import CleanPool, RainOnTheFly
from derain.metrics import psnr
from derain.runtime.torch import fast_bf16
from derain.weights.store import save_file


def dataset(data: Path, seed: int) -> RainOnTheFly:
    root = data / "backgrounds"
    pools = [
        CleanPool((root / "bsds500",), 0.55, 0.9),
        CleanPool(tuple(root / name for name in ("urban100", "sunhays80", "kodak24", "mcmaster")), 0.35, 0.5),
        CleanPool((data / "cc0",), 0.10, 0.35),
    ]
    # A few patches without rain, so that a dry photograph comes back untouched.
    return RainOnTheFly(pools, {"mixed": 0.96, "none": 0.04}, streaks=data / "streaks", seed=seed)


@dataclass
class Average:
    """Exponential moving average of a network's parameters."""

    state: dict[str, Tensor]

    def update(self, network: nn.Module, step: int) -> None:
        keep = min(0.999, (1 + step) / (20 + step))
        for name, value in network.state_dict().items():
            self.state[name].lerp_(value.detach(), 1 - keep)


def validate(network: nn.Module, data: Path, count: int) -> dict[str, float]:
    """Mean Y-PSNR on the first ``count`` pairs of each development set."""
    means = {}
    for name in ("rain100l", "rain100h"):
        values = []
        for n in range(1, count + 1):
            rainy, clean = (read_rgb(data / "dev" / name / part / f"{n}.png") for part in ("input", "target"))
            with torch.inference_mode():
                planes = torch.from_numpy(rainy.transpose(2, 0, 1).copy())[None].float() / 255
                derained = network(planes)[0].clamp(0, 1).permute(1, 2, 0).numpy()
            values.append(psnr((derained * 255 + 0.5).astype(np.uint8), clean).item())
        means[name] = float(np.mean(values))
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--lr", type=float, default=7e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--settings", type=json.loads, default={}, help="network settings as JSON")
    parser.add_argument(
        "--phases",
        type=json.loads,
        default=[[0.0, 64, 8], [0.45, 96, 8], [0.8, 128, 8]],
        help="[[from this share of the time, patch, batch], ...]",
    )
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(args.seed)
    settings: dict[str, Any] = args.settings
    network = create_model("gated-unet", **settings)
    optimizer = torch.optim.AdamW(network.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average({k: v.detach().clone() for k, v in network.state_dict().items()})
    step, spent = 0, 0.0
    last = args.out / "last.pt"
    if args.resume and last.exists():
        saved = torch.load(last, weights_only=True)
        network.load_state_dict(saved["network"])
        average.state = saved["average"]
        optimizer.load_state_dict(saved["optimizer"])
        step, spent = saved["step"], saved["spent"]
    low = fast_bf16("cpu")
    if low:
        network.to(memory_format=torch.channels_last)

    def averaged_network() -> nn.Module:
        averaged = create_model("gated-unet", **settings).eval()
        averaged.load_state_dict(average.state)
        return averaged

    def checkpoint() -> None:
        state = {"network": network.state_dict(), "average": average.state, "step": step, "spent": spent}
        state["optimizer"] = optimizer.state_dict()
        torch.save(state, last.with_suffix(".partial"))
        last.with_suffix(".partial").replace(last)
        save_file(averaged_network(), args.out / "ema.safetensors", model="gated-unet", settings=settings)

    patches = dataset(args.data, args.seed + step)
    loader = torch.utils.data.DataLoader(
        patches, batch_size=None, num_workers=1, prefetch_factor=6, multiprocessing_context="spawn"
    )
    feed = iter(loader)
    next(feed)
    print(f"{sum(p.numel() for p in network.parameters())} parameters, bf16 {low}", flush=True)
    budget = args.minutes * 60
    log = (args.out / "log.csv").open("a")
    total, counted, last_save, tick = 0.0, 0, spent, time.monotonic()
    while spent < budget:
        share = spent / budget
        for start, side, count in args.phases:
            if share >= start:
                patches.patch.fill_(side)
                patches.batch.fill_(count)
        factor = min(1.0, (step + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * share)) + 1e-3
        for group in optimizer.param_groups:
            group["lr"] = args.lr * factor
        rainy, clean = next(feed)
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            derained = network(rainy)
        loss = (derained.float() - clean).abs().mean()
        network.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
        step += 1
        average.update(network, step)
        total, counted = total + loss.item(), counted + 1
        now = time.monotonic()
        spent, tick = spent + now - tick, now
        if step % 100 == 0:
            print(f"{spent / 60:6.1f} min  step {step}  L1 {total / counted:.4f}", flush=True)
            log.write(f"{spent:.0f},{step},{total / counted:.5f}\n")
            log.flush()
            total, counted = 0.0, 0
        if spent - last_save > 600:
            checkpoint()
            found = validate(averaged_network(), args.data, 6)
            print("  first 6 pairs, Y-PSNR: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()), flush=True)
            last_save, tick = spent, time.monotonic()
    checkpoint()
    found = validate(averaged_network(), args.data, 20)
    print(f"done: {step} steps, Y-PSNR of 20 pairs: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))


if __name__ == "__main__":
    main()
