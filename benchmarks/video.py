"""Temporal fusion against frame by frame, with one network, on clips with synthetic rain.

python benchmarks/video.py [--data DIR] [--frames 20] [--size 256x192] [--image docs/images/video.png]

A static photograph, a panning one (by fractions of a pixel), and a static one with a moving object; light and
heavy rain whose streaks move from frame to frame. The fourth column fuses rainy frames before the network instead
of derained ones after it, with the true motion.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import torch

from derain import Derainer, images
from derain.metrics import flicker, psnr
from derain.rain import StreakField, StreakParams, add_streaks, sample_rain
from derain.video.fusion import RADIUS, align, fuse, identity_motion, temporal_fuse

PAN = (1.7, 0.6)  # pixels per frame
STEP = (4.3, 1.5)  # of the moving object, pixels per frame


@dataclass
class SyntheticClip:
    name: str
    clean: list[np.ndarray]
    rainy: list[np.ndarray]
    motions: list[np.ndarray]  # of each frame to the next
    masks: list[np.ndarray]  # (H, W) bool: the moving object


def make_clip(
    kind: str, preset: str, photo: np.ndarray, size: tuple[int, int], frames: int, seed: int
) -> SyntheticClip:
    rng = np.random.default_rng(seed)
    width, height = size
    photo = cv2.GaussianBlur(photo, (0, 0), 0.6)  # no finer detail than shifts by fractions of a pixel preserve
    step = PAN if kind == "pan" else (0.0, 0.0)
    left = max(0, (photo.shape[1] - width - int(PAN[0] * frames)) // 2)
    top = max(0, (photo.shape[0] - height - int(PAN[1] * frames)) // 2)
    face = np.asarray(skimage.data.chelsea()[60:160, 120:240], np.float32) / 255
    face = cv2.resize(face, (60, 50), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:height, :width]
    clean, masks = [], []
    for t in range(frames):
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        view = np.array([[1, 0, left + step[0] * t], [0, 1, top + step[1] * t]], np.float32)
        frame = cv2.warpAffine(photo, view, size, flags=flags, borderMode=cv2.BORDER_REFLECT).clip(0, 1)
        alpha = np.zeros((height, width), np.float32)
        if kind == "object":
            at = 20 + STEP[0] * t, 50 + STEP[1] * t
            translation = np.array([[1, 0, -at[0]], [0, 1, -at[1]]], np.float32)
            moved = cv2.warpAffine(face, translation, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            alpha = np.clip(24 - np.hypot((x - at[0] - 30) * 0.85, y - at[1] - 25), 0, 1).astype(np.float32)
            frame = frame * (1 - alpha[..., None]) + moved * alpha[..., None]
        clean.append(_quantize(frame))
        masks.append(alpha > 0.5)
    layers = [part for part in sample_rain(preset, rng).layers if isinstance(part, StreakParams)]
    fields = [StreakField((height, width), part.scaled(width / 400), rng) for part in layers]
    rainy = [_quantize(add_streaks(f, sum(field.render(t) for field in fields))) for t, f in enumerate(clean)]
    motion = identity_motion()
    motion[:, 2] = -np.array(step, np.float32)
    return SyntheticClip(f"{kind}, {preset}", clean, rainy, [motion] * (frames - 1), masks)


def _quantize(image: np.ndarray) -> np.ndarray:
    """Round to the levels of 8 bits."""
    return (np.round(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def fuse_before_network(clip: SyntheticClip, network: Derainer) -> list[np.ndarray]:
    results = []
    for t, frame in enumerate(clip.rainy):
        neighbors = []
        for other in range(max(0, t - RADIUS), min(len(clip.rainy), t + RADIUS + 1)):
            if other != t:
                motion = identity_motion()
                motion[:, 2] = (other - t) * clip.motions[0][:, 2]
                neighbors.append(align(clip.rainy[other], motion))
        results.append(network(fuse(frame, neighbors)))
    return results


def quality(frames: list[np.ndarray], clean: list[np.ndarray]) -> float:
    """Mean of the frames' PSNR, protocol y, dB."""
    batches = [torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2) for part in (frames, clean)]
    return float(psnr(*batches).mean())


def quality_at(frames: list[np.ndarray], clean: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """Mean of the frames' PSNR inside of masks, RGB, dB."""
    errors = [np.mean((f - c)[m] ** 2) for f, c, m in zip(frames, clean, masks, strict=True)]
    return float(np.mean(-10 * np.log10(errors)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of clean photographs instead of scikit-image's")
    parser.add_argument("--model", default="default")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--size", default="256x192")
    parser.add_argument("--seeds", type=int, default=1, help="random rains of each kind")
    parser.add_argument("--image", type=Path, help="write rainy | frame by frame | fused | clean here")
    options = parser.parse_args()
    if options.data is not None:
        files = sorted(p for p in options.data.iterdir() if p.suffix.lower() in images.FORMATS)
        photos = [images.read(p).pixels for p in files]
    else:
        photos = [
            np.asarray(image, np.float32) / 255
            for image in (skimage.data.coffee(), skimage.data.rocket(), skimage.data.astronaut())
        ]
    width, height = map(int, options.size.split("x"))
    network = Derainer(options.model)
    strips = []
    print(
        "| clip | rainy | frame by frame | fused before | **fused after** | flicker: frame by frame | **fused after** |"
    )
    print("|---|---|---|---|---|---|---|")
    number = 0
    for kind in ("static", "pan", "object"):
        for preset in ("light", "heavy"):
            for _ in range(options.seeds):
                photo = photos[number % len(photos)]
                clip = make_clip(kind, preset, photo, (width, height), options.frames, 10 + number)
                number += 1
                single = [network(frame) for frame in clip.rainy]
                fused = list(temporal_fuse(single))
                early = fuse_before_network(clip, network)
                around = [cv2.dilate(mask.astype(np.uint8), np.ones((25, 25))).astype(bool) for mask in clip.masks]
                static = [~(a | b) for a, b in zip(around, around[1:] + around[-1:], strict=True)]
                flickers = [
                    flicker(frames, truth=clip.clean, motions=clip.motions, static=static) for frames in (single, fused)
                ]
                figures = [quality(frames, clip.clean) for frames in (clip.rainy, single, early, fused)]
                print(
                    f"| {clip.name} | {figures[0]:.2f} | {figures[1]:.2f} | {figures[2]:.2f} | {figures[3]:.2f} "
                    f"({figures[3] - figures[1]:+.2f}) | {flickers[0]:.2f} | {flickers[1]:.2f} "
                    f"({100 * (flickers[1] / flickers[0] - 1):+.0f} %) |",
                    flush=True,
                )
                if kind == "object":
                    for region, masks in (("inside the object", clip.masks), ("it and 12 pixels around", around)):
                        at = [quality_at(f, clip.clean, masks) for f in (single, fused)]
                        print(f"| … {region} | | {at[0]:.2f} | | {at[1]:.2f} ({at[1] - at[0]:+.2f}) | | |", flush=True)
                middle = options.frames // 2
                strips.append(np.hstack([f[middle] for f in (clip.rainy, single, fused, clip.clean)]))
    if options.image is not None:
        images.write(images.Picture(np.vstack(strips)), options.image, overwrite=True)


if __name__ == "__main__":
    main()
