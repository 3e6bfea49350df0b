"""Peak memory and CPU seconds of `derain run` on a large image, with or without the network.

python benchmarks/large_pictures.py --size 10000x10000 --name a.jpg,a.png,a.tif,16-bit.png,16-bit.tif --without-network
python benchmarks/large_pictures.py --size 6000x4000 --name a.jpg

Names that begin with `16-bit` have 16 bits per channel. Images are written into a temporary folder.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from derain import images

_RUN = """
import resource, sys, time
from derain.cli.main import main
if sys.argv.pop(1) == "without":  # a square root instead of the network
    import numpy as np
    from derain.runtime.torch import TorchRuntime
    TorchRuntime.__call__ = lambda self, batch: np.sqrt(batch)
sys.argv.insert(1, "run")
start = time.perf_counter()
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"peak {used.ru_maxrss / 1024:.0f} MiB, {used.ru_utime + used.ru_stime:.1f} CPU seconds, "
          f"{time.perf_counter() - start:.1f} s", file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="10000x10000")
    parser.add_argument("--name", default="a.jpg")
    parser.add_argument("--without-network", action="store_true")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    photo = np.asarray(Image.fromarray(skimage.data.astronaut()).resize((2000, 2000)))
    for name in options.name.split(","):
        values = photo
        if name.startswith("16-bit"):
            low = np.random.default_rng(0).integers(0, 200, photo.shape, np.uint16)
            values = photo.astype(np.uint16) * 257 ^ low
        values = np.tile(values, (-(-height // 2000), -(-width // 2000), 1))[:height, :width]
        with tempfile.TemporaryDirectory() as folder:
            source, output = Path(folder, name), Path(folder, f"out-{name}")
            images.Picture(values, depth=8 * values.itemsize).save(source)
            del values
            mode = "without" if options.without_network else "with"
            print(name, flush=True)
            subprocess.run([sys.executable, "-c", _RUN, mode, source, "-o", output, "-v"], check=True)


if __name__ == "__main__":
    main()
