"""Train a network for a given number of minutes on one CUDA device, as fast as the device allows.

    bash scripts/train_on_gpu.sh 9 --pack gpu-pack --out runs/gpu                        # continue `default`
    bash scripts/train_on_gpu.sh 9 --set 'model.settings={channels: [56, 112, 176, 272], blocks: [4, 4, 4, 6]}'

1. checks that all packages are there; 2. runs inference and one training step; 3. measures patches per second of
the data loader and of the training step (batches of 16, 32 and 64, compiled or not); 4. trains with the fastest
setting for the time that is left. The learning rate follows the clock: constant, then a cosine to zero, so that the
result is annealed when the time is over. Writes OUT/weights.safetensors (moving average, float16) every two minutes
and at the end, OUT/metrics.csv and OUT/log.txt. On a CPU it serves to try it out: --sizes 2 --patch 64 --workers 1.

Patches travel as uint8 and become float on the device. Losses are read every 20 steps, so that the host does not
wait for the device within a step.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REQUIRED = ("torch", "numpy", "cv2", "lightning", "safetensors", "pydantic", "yaml", "platformdirs", "tifffile", "PIL")
_SAVE_EVERY = 120.0  # seconds
_READ_EVERY = 20  # steps


def check_packages() -> None:
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(f"missing packages: {', '.join(missing)}; install them first, this script installs nothing")


check_packages()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from derain.errors import DerainError  # noqa: E402
from derain.files import write_text  # noqa: E402
from derain.metrics import psnr  # noqa: E402
from derain.training.build import build  # noqa: E402
from derain.training.module import DerainModule  # noqa: E402
from derain.training.recipe import Recipe  # noqa: E402
from derain.training.recipe_files import load_recipe  # noqa: E402
from derain.weights.store import save_file  # noqa: E402


class UInt8Patches(Dataset[tuple[Tensor, Tensor]]):
    """The patches of a recipe as uint8: a quarter of the bytes."""

    def __init__(self, patches: Dataset[tuple[Tensor, Tensor]]) -> None:
        self.patches = patches

    def __getitem__(self, request: tuple[int, int]) -> tuple[Tensor, Tensor]:
        rainy, clean = ((part * 255).round().to(torch.uint8) for part in self.patches[request])
        return rainy, clean


class Batches:
    """Requests for patches without end; each patch has its own number."""

    def __init__(self, batch: int, side: int, first: int) -> None:
        self.batch, self.side, self.first = batch, side, first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        number = self.first
        while True:
            yield [(number + i, self.side) for i in range(self.batch)]
            number += self.batch


class Trainer:
    """One network, its data, and a clock."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.begin = args, time.monotonic()
        args.out.mkdir(parents=True, exist_ok=True)
        self.log_file = (args.out / "log.txt").open("a", encoding="utf-8")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        self.recipe = load(args)
        data, module = build(self.recipe)
        assert isinstance(module, DerainModule)
        self.patches, self.validation, self.module = UInt8Patches(data.patches), data.validation, module
        self.network = module.network.to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        module.move_frozen(self.device)
        self.optimizer = module.configure_optimizers()["optimizer"]
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = copy.deepcopy(self.network).eval()
        self.step = self.seen = 0
        self.rows: list[str] = ["seconds,step,patches,loss,set,psnr"]

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin

    def log(self, *words: object) -> None:
        line = f"{self.seconds:6.1f} s  {' '.join(map(str, words))}"
        print(line, flush=True)
        self.log_file.write(line + "\n")
        self.log_file.flush()

    def loader(self, batch: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        workers = self.args.workers
        return iter(
            DataLoader(
                self.patches,
                batch_sampler=Batches(batch, self.args.patch, first),  # type: ignore[arg-type]
                num_workers=workers,
                prefetch_factor=4 if workers else None,
                multiprocessing_context="spawn" if workers else None,
                pin_memory=self.device.type == "cuda",
            )
        )

    def to_device(self, part: Tensor) -> Tensor:
        unit = part.to(self.device, non_blocking=True).float().div_(255)
        return unit.contiguous(memory_format=torch.channels_last)

    def backward(self, rainy: Tensor, clean: Tensor) -> Tensor:
        """One forward and backward pass; returns the loss on the device."""
        with torch.autocast(self.device.type, torch.bfloat16):
            loss, _ = self.module.loss(rainy, clean, 0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def update(self, factor: float) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * max(factor, 1e-3)
        if self.recipe.optimizer.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.optimizer.clip)
        self.optimizer.step()
        keep = min(self.args.ema, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - keep)

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def smoke_test(self) -> None:
        """Inference and one training step on random patches: finite numbers, or the end."""
        side = self.args.patch
        rainy = torch.rand(2, 3, side, side, device=self.device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16):
            output = self.average(rainy)
        loss = self.backward(rainy, rainy)
        gradients = sum(float(p.grad.abs().sum()) for p in self.network.parameters() if p.grad is not None)
        if not (torch.isfinite(output).all() and math.isfinite(float(loss)) and math.isfinite(gradients)):
            sys.exit("the smoke test gives numbers that are not finite")
        parameters = sum(p.numel() for p in self.network.parameters())
        self.log(f"smoke test: loss {float(loss):.4f}, {parameters:,} parameters; {self.validate()}")

    def measure(self) -> tuple[int, bool]:
        """The batch and whether to compile that train most patches per second; logs all."""
        batches = self.loader(max(self.args.sizes))
        next(batches)
        start, count = time.monotonic(), 0
        while time.monotonic() - start < self.args.probe_seconds:
            count += len(next(batches)[0])
        self.log(f"loader: {count / (time.monotonic() - start):.0f} patches/s with {self.args.workers} workers")
        del batches
        speeds: dict[tuple[int, bool], float] = {}
        for compiled in (False, True) if self.args.compile else (False,):
            if compiled:
                self.module.network = torch.compile(self.network)  # type: ignore[assignment]
            for batch in self.args.sizes:
                try:
                    speeds[batch, compiled] = self.step_speed(batch)
                except torch.cuda.OutOfMemoryError:
                    self.log(f"step, batch {batch}: not enough memory")
                except Exception as error:  # the compiler is missing or fails: train without it
                    self.log(f"step, batch {batch}, {'compiled' if compiled else 'eager'}: {type(error).__name__}")
                else:
                    how = "compiled" if compiled else "eager"
                    self.log(f"step, batch {batch}, {how}: {speeds[batch, compiled]:.0f} patches/s")
        if not speeds:
            sys.exit("no batch size fits; choose smaller --sizes")
        best = max(speeds, key=lambda setting: speeds[setting])
        if not best[1]:
            self.module.network = self.network
        return best

    def step_speed(self, batch: int) -> float:
        side = self.args.patch
        patch = torch.rand(batch, 3, side, side, device=self.device).contiguous(memory_format=torch.channels_last)
        clean = patch * 0.9
        state = copy.deepcopy(self.network.state_dict())
        for warmup in (True, False):
            self.synchronize()
            start, count = time.monotonic(), 0
            while count < 2 or (not warmup and time.monotonic() - start < self.args.probe_seconds):
                self.backward(patch, clean)
                count += 1
            self.synchronize()
        self.network.load_state_dict(state)
        return batch * count / (time.monotonic() - start)

    def validate(self) -> str:
        """PSNR of the moving average on each validation set, as text; also a row of the metrics."""
        found: dict[str, list[float]] = {}
        network, self.module.network = self.module.network, self.average
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16):
            for index in range(len(self.validation)):  # type: ignore[arg-type]
                name, rainy, clean = self.validation[index]
                derained = self.module.derain(rainy.to(self.device)).cpu()
                found.setdefault(name, []).append(float(psnr(derained, clean, "y").mean()))
        self.module.network = network
        for name, values in found.items():
            self.rows.append(f"{self.seconds:.1f},{self.step},{self.seen},,{name},{np.mean(values):.4f}")
        return ", ".join(f"{name} {np.mean(values):.2f} dB" for name, values in found.items())

    def save(self) -> None:
        origin = {"recipe": self.recipe.as_yaml(), "step": str(self.step), "patches": str(self.seen)}
        model, settings = self.recipe.model.name, self.recipe.model.settings
        save_file(self.average, self.args.out / "weights.safetensors", model=model, settings=settings, origin=origin)
        write_text("\n".join(self.rows) + "\n", self.args.out / "metrics.csv")

    def train(self, batch: int) -> None:
        """Until the time is over."""
        limit, constant = 60 * self.args.minutes - self.args.reserve, self.args.constant
        begin = saved = mark = self.seconds
        waited, losses = 0.0, []
        batches = self.loader(batch, first=10**6)
        while self.seconds < limit:
            before = self.seconds
            rainy, clean = (self.to_device(part) for part in next(batches))
            waited += self.seconds - before
            share = (self.seconds - begin) / max(1e-6, limit - begin)
            decay = 1.0 if share < constant else 0.5 + 0.5 * math.cos(math.pi * (share - constant) / (1 - constant))
            losses.append(self.backward(rainy, clean))
            self.update(min(1.0, (self.step + 1) / 60) * decay)
            self.step, self.seen = self.step + 1, self.seen + len(rainy)
            if self.step % _READ_EVERY == 0:
                loss = float(torch.stack(losses).mean())
                losses = []
                if not math.isfinite(loss):
                    sys.exit(f"the loss is {loss} at step {self.step}; lower optimizer.relative or optimizer.lr")
                self.rows.append(f"{self.seconds:.1f},{self.step},{self.seen},{loss:.6f},,")
                if self.step % (5 * _READ_EVERY) == 0:
                    speed, idle = self.seen / (self.seconds - begin), waited / max(1e-6, self.seconds - mark)
                    self.log(
                        f"step {self.step}, {self.seen} patches, {speed:.0f}/s, {idle:.0%} waiting, loss {loss:.4f}"
                    )
                    waited, mark = 0.0, self.seconds
            if self.seconds - saved > _SAVE_EVERY:
                self.log(self.validate())
                self.save()
                saved = self.seconds
        self.log(f"end: {self.validate()}; {self.step} steps, {self.seen} patches of {self.args.patch}²")
        self.save()


def load(args: argparse.Namespace) -> Recipe:
    """The recipe with the pack's data."""
    pack = args.pack.resolve()
    overrides = [f"data.clean=['{pack / 'clean'}']", f"data.layers='{pack / 'layers'}'", "data.pairs=[]"]
    overrides += [f"validation.pairs={[str(f) for f in sorted((pack / 'validation').iterdir())]}"]
    start = args.start if args.start is not None else pack / "start.safetensors"
    overrides += [f"model.start='{start}'"] if start.exists() else []
    recipe = load_recipe(args.recipe, [*overrides, f"seed={args.seed}", *args.set])
    assert isinstance(recipe, Recipe)
    return recipe


def main() -> None:
    cores = os.cpu_count() or 2
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="for everything, from the start of this script")
    parser.add_argument("--pack", type=Path, default=Path("gpu-pack"))
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--recipe", default="gated-unet-5")
    parser.add_argument("--start", type=Path, help="checkpoint to start from, instead of the pack's")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="changes to the recipe")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64], help="batch sizes to try")
    parser.add_argument("--patch", type=int, default=256, help="side of the patches")
    parser.add_argument("--workers", type=int, default=max(1, cores - 1))
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--constant", type=float, default=0.55, help="share of the training at a constant rate")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="try torch.compile")
    parser.add_argument("--probe-seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--reserve", type=float, default=10.0, help="seconds for the last validation")
    parser.add_argument("--seed", type=int, default=1)
    args: Any = parser.parse_args()
    try:
        trainer = Trainer(args)
        trainer.log(
            torch.cuda.get_device_name() if trainer.device.type == "cuda" else "cpu", f"torch {torch.__version__}"
        )
        trainer.smoke_test()
        batch, compiled = trainer.measure()
        trainer.log(f"training with batches of {batch}, {'compiled' if compiled else 'eager'}")
        trainer.train(batch)
    except DerainError as error:
        sys.exit(f"error: {error}")
    trainer.log_file.close()
    sys.stdout.flush()
    os._exit(0)  # the loader's workers need no clean end


if __name__ == "__main__":
    main()
