"""Our networks against the published forward passes of PReNet, SAPNet and JDNet, interleaved: medians, ratios.

python benchmarks/inference_speed.py [--size 480x320] [--threads 2] [--repeats 3]

"Plain" follows the authors' code, NCHW fp32: one convolution per gate, a new tensor in each step; see published.py.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from published import as_published

from derain import Derainer
from derain.arrays import to_chw
from derain.models import create_model
from derain.weights import save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="480x320")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", default="prenet,sapnet,jdnet")
    parser.add_argument("--runtimes", default="torch,onnx,openvino")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    image = np.random.default_rng(0).random((height, width, 3), np.float32)
    batch = torch.from_numpy(to_chw(image))[None]
    calls = {
        f"default, {kind}": Derainer(runtime=kind, threads=options.threads) for kind in options.runtimes.split(",")
    }
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        for name in options.models.split(","):
            file = Path(folder) / f"{name}.safetensors"
            network = create_model(name).eval().requires_grad_(False)
            save_file(network, file, model=name, settings={}, half=False)
            plain = as_published(create_model(name).eval().requires_grad_(False))
            plain.load_state_dict(network.state_dict())
            calls[f"{name}, plain"] = lambda _, n=plain: n(batch).clamp_(0, 1)
            for kind in options.runtimes.split(","):
                derainer = Derainer(file, runtime=kind, threads=options.threads, tile="off")
                calls[f"{name}, {kind}"] = derainer
                difference = np.abs(calls[f"{name}, plain"](image)[0].permute(1, 2, 0).numpy() - derainer(image))
                print(f"{name}, {kind}: differs from plain by at most {difference.max():.1e}", flush=True)
        seconds: dict[str, list[float]] = {key: [] for key in calls}
        for repeat in range(options.repeats + 1):  # the first is a warm-up
            for key, call in calls.items():
                start = time.perf_counter()
                call(image)
                if repeat:
                    seconds[key].append(time.perf_counter() - start)
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    for key, median in medians.items():
        name = "sapnet" if key.startswith("default") else key.split(",")[0]
        ratio = f"{medians[f'{name}, plain'] / median:5.2f} × {name}, plain" if f"{name}, plain" in medians else ""
        print(f"{key:20} {1000 * median:8.0f} ms  {ratio}")


if __name__ == "__main__":
    main()
