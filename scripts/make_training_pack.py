"""Pack training data for a machine that has none: photographs and rain layers as JPEG, validation pairs, a start.

    python scripts/make_training_pack.py --clean PHOTOS --layers LAYERS --validation rain100l --out gpu-pack

The pack holds ``clean/``, ``layers/``, ``validation/NAME/{input,target}/`` and ``start.safetensors``, at most
``--megabytes`` in all. ``scripts/train_on_gpu.sh`` trains from it. The licenses of the data apply to the pack.
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

import cv2
import numpy as np

from derain.data.layouts import find_images, find_pairs
from derain.files import atomic_path, write_bytes

_MIN_SIDE = 257  # a patch of 256 must fit
_CLEAN_SHARE = 0.82  # of the bytes that validation and start leave; the rest is for rain layers


def shrunk_jpeg(file: Path, max_side: int, quality: int, flags: int) -> bytes | None:
    """An image as JPEG with its longer side at most ``max_side``; ``None`` if it is unreadable or too small."""
    image = cv2.imread(str(file), flags)
    if image is None:
        return None
    scale = max_side / max(image.shape[:2])
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    if min(image.shape[:2]) < _MIN_SIDE:
        return None
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert encoded
    return bytes(data)


def fill(folder: Path, files: list[Path], budget: float, max_side: int, quality: int, flags: int) -> int:
    """Write images in random order until the budget of bytes is used; returns their number."""
    random.Random(0).shuffle(files)
    used = count = 0
    for file in files:
        data = shrunk_jpeg(file, max_side, quality, flags)
        if data is None:
            continue
        if used + len(data) > budget:
            break
        write_bytes(data, folder / f"{count:04d}.jpg")
        used, count = used + len(data), count + 1
    return count


def copy_validation(source: Path, target: Path, count: int) -> int:
    """Copy evenly spaced pairs; returns their bytes."""
    pairs = find_pairs(source).pairs
    size = 0
    for index in range(min(count, len(pairs))):
        pair = pairs[index * len(pairs) // min(count, len(pairs))]
        for kind, file in (("input", pair.rainy), ("target", pair.clean)):
            output = target / kind / f"{index:03d}{file.suffix}"
            output.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, output)
            size += output.stat().st_size
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", type=Path, nargs="+", required=True, help="folders of rain-free photographs")
    parser.add_argument("--layers", type=Path, required=True, help="folder of rain layers")
    parser.add_argument("--validation", type=Path, nargs="+", required=True, help="folders of pairs")
    parser.add_argument("--pairs", type=int, default=4, help="validation pairs of each folder")
    parser.add_argument("--start", type=Path, help="checkpoint to start from")
    parser.add_argument("--out", type=Path, default=Path("gpu-pack"))
    parser.add_argument("--megabytes", type=float, default=35)
    parser.add_argument("--max-side", type=int, default=600, help="longer side of the photographs, pixels")
    parser.add_argument("--quality", type=int, default=76, help="JPEG quality of the photographs")
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f"{args.out} exists; remove it or choose another --out")
    used = sum(copy_validation(f, args.out / "validation" / f.name, args.pairs) for f in args.validation)
    if args.start is not None:
        with atomic_path(args.out / "start.safetensors") as temporary:
            shutil.copyfile(args.start, temporary)
        used += args.start.stat().st_size
    rest = args.megabytes * 1e6 - used
    if rest <= 0:
        parser.error(f"start and validation take {used / 1e6:.1f} MB; raise --megabytes or lower --pairs")
    photos = [file for folder in args.clean for file in find_images(folder)]
    clean = fill(args.out / "clean", photos, _CLEAN_SHARE * rest, args.max_side, args.quality, cv2.IMREAD_COLOR)
    layer_files = find_images(args.layers)
    layers = fill(args.out / "layers", layer_files, (1 - _CLEAN_SHARE) * rest, 10**6, 85, cv2.IMREAD_GRAYSCALE)
    size = sum(file.stat().st_size for file in args.out.rglob("*") if file.is_file())
    print(
        f"{args.out}: {clean} of {len(photos)} photographs, {layers} of {len(layer_files)} layers, {size / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
