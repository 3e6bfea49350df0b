"""Clips in the rain engine's rain: steadied by neighbors against frame by frame, with one network.

python benchmarks/video.py [--data DIR] [--frames 20] [--size 256x192] [--picture docs/images/video.png]

A static photograph, a panning one (by parts of a pixel), and a static one over which a thing moves;
light and heavy rain that keeps its streaks from frame to frame. The fourth column fuses rainy frames
before the network instead of derained ones after it, with the true motion.
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
from derain.video.fusion import RADIUS, aligned, fuse, steady, still

PAN = (1.7, 0.6)  # pixels a frame
STEP = (4.3, 1.5)  # of the moving thing


@dataclass
class Rained:
    name: str
    clean: list[np.ndarray]
    rainy: list[np.ndarray]
    motions: list[np.ndarray]  # of each frame to the next
    thing: list[np.ndarray]  # (H, W) bool


def make(kind: str, preset: str, photo: np.ndarray, size: tuple[int, int], frames: int, seed: int) -> Rained:
    rng = np.random.default_rng(seed)
    width, height = size
    photo = cv2.GaussianBlur(photo, (0, 0), 0.6)  # no finer than what moving by parts of a pixel keeps
    step = PAN if kind == "pan" else (0.0, 0.0)
    left = max(0, (photo.shape[1] - width - int(PAN[0] * frames)) // 2)
    top = max(0, (photo.shape[0] - height - int(PAN[1] * frames)) // 2)
    face = np.asarray(skimage.data.chelsea()[60:160, 120:240], np.float32) / 255
    face = cv2.resize(face, (60, 50), interpolation=cv2.INTER_AREA)
    y, x = np.mgrid[:height, :width]
    clean, things = [], []
    for t in range(frames):
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        place = np.array([[1, 0, left + step[0] * t], [0, 1, top + step[1] * t]], np.float32)
        frame = cv2.warpAffine(photo, place, size, flags=flags, borderMode=cv2.BORDER_REFLECT).clip(0, 1)
        thing = np.zeros((height, width), np.float32)
        if kind == "thing":
            at = 20 + STEP[0] * t, 50 + STEP[1] * t
            there = np.array([[1, 0, -at[0]], [0, 1, -at[1]]], np.float32)
            moved = cv2.warpAffine(face, there, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            thing = np.clip(24 - np.hypot((x - at[0] - 30) * 0.85, y - at[1] - 25), 0, 1).astype(np.float32)
            frame = frame * (1 - thing[..., None]) + moved * thing[..., None]
        clean.append(_eight_bit(frame))
        things.append(thing > 0.5)
    layers = [part for part in sample_rain(preset, rng).layers if isinstance(part, StreakParams)]
    fields = [StreakField((height, width), part.scaled(width / 400), rng) for part in layers]
    rainy = [_eight_bit(add_streaks(f, sum(field.render(t) for field in fields))) for t, f in enumerate(clean)]
    motion = still()
    motion[:, 2] = -np.array(step, np.float32)
    return Rained(f"{kind}, {preset}", clean, rainy, [motion] * (frames - 1), things)


def _eight_bit(picture: np.ndarray) -> np.ndarray:
    return (np.round(np.clip(picture, 0, 1) * 255) / 255).astype(np.float32)


def before_network(clip: Rained, network: Derainer) -> list[np.ndarray]:
    results = []
    for t, frame in enumerate(clip.rainy):
        near = []
        for other in range(max(0, t - RADIUS), min(len(clip.rainy), t + RADIUS + 1)):
            if other != t:
                motion = still()
                motion[:, 2] = (other - t) * clip.motions[0][:, 2]
                near.append(aligned(clip.rainy[other], motion))
        results.append(network(fuse(frame, near)))
    return results


def quality(frames: list[np.ndarray], clean: list[np.ndarray]) -> float:
    """Mean of the frames' PSNR, protocol y, dB."""
    both = [torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2) for part in (frames, clean)]
    return float(psnr(*both).mean())


def quality_at(frames: list[np.ndarray], clean: list[np.ndarray], masks: list[np.ndarray]) -> float:
    """Mean of the frames' PSNR over some pixels, RGB, dB."""
    errors = [np.mean((f - c)[m] ** 2) for f, c, m in zip(frames, clean, masks, strict=True)]
    return float(np.mean(-10 * np.log10(errors)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of clean photographs instead of scikit-image's")
    parser.add_argument("--model", default="default")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--size", default="256x192")
    parser.add_argument("--seeds", type=int, default=1, help="rains of each kind")
    parser.add_argument("--picture", type=Path, help="write rainy | frame by frame | steadied | clean here")
    options = parser.parse_args()
    if options.data is not None:
        files = sorted(p for p in options.data.iterdir() if p.suffix.lower() in images.FORMATS)
        photos = [images.read(p).pixels for p in files]
    else:
        photos = [
            np.asarray(picture, np.float32) / 255
            for picture in (skimage.data.coffee(), skimage.data.rocket(), skimage.data.astronaut())
        ]
    width, height = map(int, options.size.split("x"))
    network = Derainer(options.model)
    strips = []
    print("| clip | rainy | frame by frame | fused before | **steadied** | flicker: frame by frame | **steadied** |")
    print("|---|---|---|---|---|---|---|")
    number = 0
    for kind in ("static", "pan", "thing"):
        for preset in ("light", "heavy"):
            for _ in range(options.seeds):
                clip = make(kind, preset, photos[number % len(photos)], (width, height), options.frames, 10 + number)
                number += 1
                single = [network(frame) for frame in clip.rainy]
                steadied = list(steady(single))
                early = before_network(clip, network)
                quiet = [~cv2.dilate(t.astype(np.uint8), np.ones((25, 25))).astype(bool) for t in clip.thing]
                static = [a & b for a, b in zip(quiet, quiet[1:] + quiet[-1:], strict=True)]
                waver = [
                    flicker(frames, truth=clip.clean, motions=clip.motions, static=static)
                    for frames in (single, steadied)
                ]
                figures = [quality(frames, clip.clean) for frames in (clip.rainy, single, early, steadied)]
                print(
                    f"| {clip.name} | {figures[0]:.2f} | {figures[1]:.2f} | {figures[2]:.2f} | {figures[3]:.2f} "
                    f"({figures[3] - figures[1]:+.2f}) | {waver[0]:.2f} | {waver[1]:.2f} "
                    f"({100 * (waver[1] / waver[0] - 1):+.0f} %) |",
                    flush=True,
                )
                if kind == "thing":
                    around = [cv2.dilate(t.astype(np.uint8), np.ones((25, 25))).astype(bool) for t in clip.thing]
                    for what, masks in (("inside the thing", clip.thing), ("it and 12 pixels around", around)):
                        at = [quality_at(f, clip.clean, masks) for f in (single, steadied)]
                        print(f"| … {what} | | {at[0]:.2f} | | {at[1]:.2f} ({at[1] - at[0]:+.2f}) | | |", flush=True)
                middle = options.frames // 2
                strips.append(np.hstack([f[middle] for f in (clip.rainy, single, steadied, clip.clean)]))
    if options.picture is not None:
        images.write(images.Picture(np.vstack(strips)), options.picture, overwrite=True)


if __name__ == "__main__":
    main()
