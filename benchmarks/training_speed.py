"""Seconds per training step of SAPNet, 12×100×100: derain's step against the authors' implementation.

python benchmarks/training_speed.py

The plain loop is fp32 NCHW with the four LSTM gates as four convolutions and, as in the authors' script,
a second forward pass after each step that only measures PSNR. Both maximize SSIM with Adam.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from published import PlainLSTM
from torch import nn

from derain.losses import create_loss
from derain.models import create_model
from derain.runtime.torch import fast_bf16


def plain_step(network: nn.Module, optimizer: torch.optim.Optimizer, rainy, clean) -> None:
    loss = create_loss("ssim")(network(rainy), clean, rainy)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        (network(rainy).clamp(0, 1) - clean).square().mean().item()


def derain_step(network: nn.Module, optimizer: torch.optim.Optimizer, rainy, clean) -> None:
    low = fast_bf16("cpu")
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        derained = network(rainy)
    loss = create_loss("ssim")(derained.float(), clean, rainy)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def seconds(step: Callable[[], None], repeats: int) -> float:
    step()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    rainy, clean = torch.rand(12, 3, 100, 100), torch.rand(12, 3, 100, 100)
    plain, ours = create_model("sapnet"), create_model("sapnet")
    plain.lstm = PlainLSTM(32)
    layout = torch.channels_last if fast_bf16("cpu") else torch.contiguous_format
    ours.to(memory_format=layout)
    batch = [x.contiguous(memory_format=layout) for x in (rainy, clean)]
    optimizers = [torch.optim.Adam(n.parameters(), 1e-3) for n in (plain, ours)]
    slow = seconds(lambda: plain_step(plain, optimizers[0], rainy, clean), repeats)
    fast = seconds(lambda: derain_step(ours, optimizers[1], *batch), repeats)
    kind = "bf16 channels-last" if fast_bf16("cpu") else "fp32"
    print(f"{torch.get_num_threads()} threads, derain in {kind}")
    print(f"plain {slow:.2f} s per step, derain {fast:.2f} s per step: {slow / fast:.1f}×")


if __name__ == "__main__":
    main()
