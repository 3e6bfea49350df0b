"""Our networks against the plain forward of SAPNet and PReNet, interleaved: medians and ratios.

python benchmarks/inference_speed.py [--size 480x320] [--threads 2] [--repeats 3]

Plain is as the authors wrote it: six stages, a convolution a gate, a stem over both pictures, NCHW fp32.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from published import PlainLSTM

from derain import Derainer
from derain.models import create_model
from derain.weights import save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="480x320")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runtimes", default="torch,onnx,openvino")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    picture = np.random.default_rng(0).random((height, width, 3), np.float32)
    batch = torch.from_numpy(picture).permute(2, 0, 1)[None].contiguous()
    default = Derainer(threads=options.threads)
    calls = {"default, torch": lambda: default(picture)}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("prenet", "sapnet"):
            file = Path(folder) / f"{name}.safetensors"
            network = create_model(name).eval().requires_grad_(False)
            save_file(network, file, model=name, settings={}, half=False)
            plain = create_model(name).eval().requires_grad_(False)
            plain.lstm = PlainLSTM(32)
            plain.load_state_dict(network.state_dict())
            calls[f"{name}, plain"] = lambda n=plain: n(batch)
            for runtime in options.runtimes.split(","):
                derainer = Derainer(file, runtime=runtime, threads=options.threads, tile="off")
                calls[f"{name}, {runtime}"] = lambda d=derainer: d(picture)
        seconds: dict[str, list[float]] = {key: [] for key in calls}
        with torch.inference_mode():
            for turn in range(options.repeats + 1):
                for key, call in calls.items():
                    start = time.perf_counter()
                    call()
                    if turn:
                        seconds[key].append(time.perf_counter() - start)
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    for key, median in medians.items():
        name = "sapnet" if key.startswith("default") else key.split(",")[0]
        print(f"{key:20} {1000 * median:8.0f} ms  {medians[f'{name}, plain'] / median:5.2f} × {name}, plain")


if __name__ == "__main__":
    main()
