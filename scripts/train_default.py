"""Train the network behind `default` on the data that it is trained on, by the recipe gated-unet-5.

    python scripts/train_default.py DATA --out runs/default [--start FILE] [--resume] [FIELD=VALUE ...]

DATA holds ``backgrounds/{bsds500,urban100,kodak24,mcmaster}``, ``free``, ``cc0`` (rain-free photographs),
``streaks/{garg06,rain200h}`` (streak images and rain layers), ``pairs/{rain800,rain1400,roadscene}``
(``input``/``target``) and ``dev/{rain100l,rain100h}`` (validation). Of the pairs, every sixth scene is held out, and
images smaller than a patch are left out; what is used is linked below ``OUT-pairs``. Calls ``derain train``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zlib
from pathlib import Path

import cv2

from derain.data.layouts import Pair, find_pairs

RECIPE = "gated-unet-5"
PATCH = 256
#: Families of pairs. The rendered rain with fog on Cityscapes is not among them, for its targets have no fog.
FAMILIES = ("rain800", "rain1400", "roadscene")


def is_held_out(pair: Pair) -> bool:
    """Whether a pair is kept for measuring; all versions of a scene fall on the same side."""
    return zlib.crc32(pair.clean.stem.encode()) % 6 == 0


def link_pairs(source: Path, target: Path) -> dict[str, int]:
    """Link the usable pairs of a family below ``target/{train,held-out}``; returns their numbers."""
    counts = {"train": 0, "held-out": 0}
    for pair in find_pairs(source).pairs:
        image = cv2.imread(str(pair.rainy))
        if image is None or min(image.shape[:2]) < PATCH:
            continue
        part = "held-out" if is_held_out(pair) else "train"
        counts[part] += 1
        for kind, file in (("input", pair.rainy), ("target", pair.clean)):
            link = target / part / source.name / kind / f"{pair.rainy.stem}{file.suffix}"
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    return counts


def pools(data: Path) -> list[dict[str, object]]:
    """The pools of rain-free photographs, their shares and how far they are reduced."""
    backgrounds = data / "backgrounds"
    small = [str(backgrounds / name) for name in ("urban100", "kodak24", "mcmaster")]
    return [
        {"folders": [str(backgrounds / "bsds500")], "share": 1.0, "min_scale": 0.8},
        {"folders": small, "share": 0.35, "min_scale": 0.4},
        {"folders": [str(data / "free")], "share": 0.5, "min_scale": 0.5},
        {"folders": [str(data / "cc0")], "share": 0.15, "min_scale": 0.25},
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="changes to the recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/default"))
    parser.add_argument("--start", type=Path, help="checkpoint to start from")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    args = parser.parse_intermixed_args()
    command = [sys.executable, "-m", "derain", "train"]
    if args.resume:
        return subprocess.run([*command, "--resume", "--out", str(args.out)], check=False).returncode
    data = args.data.resolve()
    linked = args.out.with_name(f"{args.out.name}-pairs").resolve()
    for family in FAMILIES:
        print(family, link_pairs(data / "pairs" / family, linked))
    fields = {
        "data.clean": pools(data),
        "data.streaks": str(data / "streaks/garg06"),
        "data.layers": str(data / "streaks/rain200h"),
        "data.pairs": [str(linked / "train" / family) for family in FAMILIES],
        "validation.pairs": [str(data / "dev" / name) for name in ("rain100l", "rain100h")],
    }
    if args.start is not None:
        fields["model.start"] = str(args.start.resolve())
    overrides = [f"{key}={json.dumps(value)}" for key, value in fields.items()]
    return subprocess.run(
        [*command, RECIPE, *overrides, *args.overrides, "--out", str(args.out)], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
