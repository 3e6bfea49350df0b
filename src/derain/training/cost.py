"""What a run costs on this machine, measured in advance."""

from __future__ import annotations

import math
import statistics
import sys
import time
from dataclasses import dataclass

import torch

from .base import set_memory_format
from .build import build, pick_precision
from .recipe import AnyRecipe


@dataclass(frozen=True)
class RunEstimate:
    """The cost of a run on this machine.

    Attributes:
        seconds: per step, for each phase.
        steps: of each phase.
        memory: peak memory, bytes; 0 where the system does not report it.
        losses: terms of the loss in the last phase.
        parameters: number of the network's parameters.
    """

    seconds: tuple[float, ...]
    steps: tuple[int, ...]
    memory: int
    losses: dict[str, float]
    parameters: int

    @property
    def total_seconds(self) -> float:
        """Of all steps, without validation."""
        return sum(s * n for s, n in zip(self.seconds, self.steps, strict=True))


def estimate(recipe: AnyRecipe, repeats: int = 3) -> RunEstimate:
    """Train on one batch of each phase and measure it; nothing is written.

    Raises:
        RecipeError, InputError: something in the recipe is unusable or not available.
    """
    data, module = build(recipe)
    recipe = data.recipe
    device = torch.device("cuda" if torch.cuda.is_available() and recipe.trainer.accelerator != "cpu" else "cpu")
    module.to(device)
    module.move_frozen(device)
    low = pick_precision(recipe) != "32-true"
    channels_last = low or device.type != "cpu"
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    module.network.to(memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = module.configure_optimizers()["optimizer"]
    total = recipe.schedule.length
    ends = [*(phase.start for phase in recipe.phases[1:]), 1.0]
    seconds, steps, values = [], [], {}
    for phase, end in zip(recipe.phases, ends, strict=True):
        samples = [data.patches[i, phase.size] for i in range(phase.batch)]
        inputs, targets = (
            set_memory_format(torch.stack([s[i] for s in samples]).to(device), channels_last) for i in (0, 1)
        )
        # At the last step of a phase, all terms of the loss that set in during it apply.
        step = max(0, math.ceil(end * total) - 1)
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=low):
                loss, terms = module.loss(inputs, targets, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            values = {name: float(value) for name, value in terms.items()}  # waits for the device
            times.append(time.perf_counter() - start)
        seconds.append(statistics.median(times[1:] or times))
        steps.append(round((end - phase.start) * total))
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else _peak_memory()
    parameters = sum(p.numel() for p in module.network.parameters())
    return RunEstimate(tuple(seconds), tuple(steps), memory, values, parameters)


def fit_to(recipe: AnyRecipe, minutes: float) -> AnyRecipe:
    """The recipe with as many steps as take about so many minutes here, without validation."""
    run = estimate(recipe)
    steps = max(1, int(sum(run.steps) * minutes * 60 / run.total_seconds))
    schedule = recipe.schedule.model_copy(update={"steps": steps, "epochs": None})
    return recipe.model_copy(update={"schedule": schedule})


def _peak_memory() -> int:
    """Peak memory of this process, bytes; 0 on Windows.

    Not psutil's: it reports current memory on Linux and macOS, and the peak is what a run needs.
    """
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
