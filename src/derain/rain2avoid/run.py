"""Rain2Avoid from end to end: one image, or a set, in; derained images out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torch import nn

from derain.arrays import FloatArray, UInt8Array, to_hwc, to_uint8
from derain.errors import InputError, ModelError
from derain.models import SizeRule, create_model, model_info
from derain.runtime.torch import pick_device
from derain.weights.official import convert_official, find_network, read_checkpoint

from .ldgp import Map
from .learner import Learner, OnStep, derain_planes
from .settings import Method, Settings
from .targets import Targets, to_planes

_REFERENCE_SHARE = 0.4
_PATCH = 40
_LOCALIZED = 0.5  # share of what is removed that a fifth of the patches may hold
_SET_STEPS = 2000


@dataclass(frozen=True)
class Adapted:
    """An image derained by Rain2Avoid.

    Attributes:
        pixels: ``(H, W, 3)`` float32 in [0, 1], derained.
        rain_map: ``(H, W)`` uint8, from LDGP.
        reference: ``(H, W, 3)`` float32 in [0, 1], the fused reference.
        steps: optimizer steps taken.
        seconds: duration.
        refused: why the image was returned unchanged; empty if it was derained.
    """

    pixels: FloatArray
    rain_map: Map
    reference: FloatArray
    steps: int
    seconds: float
    refused: str = ""


def adapt(
    image: npt.NDArray[Any],
    *,
    method: Method = "single",
    settings: Settings | None = None,
    rain_map: Map | None = None,
    references: Sequence[npt.NDArray[Any]] | None = None,
    on_step: OnStep | None = None,
) -> Adapted:
    """Derain an image with a network that is trained on this image alone.

    Args:
        image: ``(H, W, 3)`` RGB, uint8 or float in [0, 1]; any size.
        method: ``single`` trains on references sampled once; ``online`` samples new ones while training.
        settings: :class:`Settings` at its defaults if ``None``.
        rain_map: instead of LDGP's own.
        references: instead of NSS's own, in training order; the fast schedule uses their mean.
        on_step: called with (steps done, maximum steps) after each step.

    Returns:
        The derained image with its rain map and reference. Equal seeds give equal results on one machine with one
        number of threads.

    Raises:
        InputError: another shape or unknown method, or references that do not fit.
        DeviceError: the device or precision is not available.
    """
    if method not in ("single", "online"):
        raise InputError(f"unknown method {method!r}; choose single or online")
    settings = settings or Settings()
    start = time.perf_counter()
    estimated = rain_map is None and references is None  # a map that the caller provides is trusted
    rain_map = settings.rain_map(image) if rain_map is None else rain_map
    targets = Targets(image, rain_map, settings, online=method == "online", references=references)
    reference = targets.fused()
    learner = Learner(settings)
    refused = ""
    if not targets.has_rain:  # nothing to train on; a copy by the network would only blur
        refused = "no rain found"
    elif settings.schedule == "fast" and estimated and is_localized(targets.planes, reference):
        refused = "what looks like rain is in few places only, so it belongs to the scene"
    if refused:
        if on_step is not None:
            on_step(1, 1)
        return Adapted(to_hwc(targets.planes), rain_map, reference, 0, time.perf_counter() - start, refused)
    fit = learner.fit_fast if settings.schedule == "fast" else learner.fit_images
    steps = fit([targets], on_step)
    pixels = to_hwc(learner.derain(targets.planes))
    if settings.schedule == "fast":
        # The errors of reference and network differ: their mean is closer to the truth in the rain.
        pixels[rain_map > 0] += _REFERENCE_SHARE * (reference - pixels)[rain_map > 0]
        np.minimum(pixels, to_hwc(targets.planes), out=pixels)  # streaks add light, so no pixel may get brighter
    return Adapted(pixels, rain_map, reference, steps, time.perf_counter() - start)


def is_localized(planes: FloatArray, reference: FloatArray) -> bool:
    """Whether what a reference removes is in few places: rain falls everywhere, fences and grass do not.

    Args:
        planes: the rainy image, ``(3, H, W)``.
        reference: ``(H, W, 3)``.
    """
    removed = np.abs(planes - reference.transpose(2, 0, 1)).mean(axis=0)
    height, width = (max(1, side // _PATCH) for side in removed.shape)
    patches = np.sort(cv2.resize(removed, (width, height), interpolation=cv2.INTER_AREA), axis=None)[::-1]
    few = len(patches) // 5
    # Of up to ten patches, two may hold half by chance.
    return len(patches) > 10 and float(patches[:few].sum()) > _LOCALIZED * float(patches.sum())


def train_set(
    images: Sequence[tuple[npt.NDArray[Any], Map | None, Sequence[npt.NDArray[Any]] | None]],
    settings: Settings | None = None,
    on_step: OnStep | None = None,
) -> nn.Module:
    """Train one network for a set of rainy images (``multiple``).

    Args:
        images: (image, rain map, references) of each; what is ``None`` is computed.
        settings: :class:`Settings` at its defaults if ``None``.
        on_step: called with (steps done, steps in all) after each step.

    Returns:
        The network in ``eval`` mode on the CPU; see ``settings.network``.

    Raises:
        InputError: no images, or some that do not fit.
    """
    settings = settings or Settings()
    if not images:
        raise InputError("no images to train on; give at least one")
    targets = [
        Targets(
            image,
            settings.rain_map(image) if rain_map is None else rain_map,
            settings,
            online=False,
            references=references,
        )
        for image, rain_map, references in images
    ]
    learner = Learner(settings)
    if settings.schedule == "fast":
        learner.fit_fast(targets, on_step, settings.steps or _SET_STEPS)
    else:
        learner.fit_crops(targets, on_step)
    return learner.network.cpu().eval()


def derain_with(network: nn.Module, image: npt.NDArray[Any], settings: Settings) -> FloatArray:
    """Derain an image with a network of :func:`train_set`.

    Args:
        network: moved to ``settings.device``.
        image: ``(H, W, 3)`` RGB, uint8 or float in [0, 1]; any size.
        settings: those it was trained with.

    Returns:
        ``(H, W, 3)`` float32 in [0, 1].
    """
    device = pick_device(settings.device)
    return to_hwc(derain_planes(network.to(device), to_planes(image), model_info(settings.network[0]).size, device))


def load_authors(path: Path) -> tuple[nn.Module, str]:
    """The network of the authors' ``model.pkl``, or of another official file, and its name.

    Args:
        path: a file of tensors; nothing in it is executed.

    Raises:
        ModelError: missing, unsafe, or of an unknown network.
    """
    name, options, state = find_network(read_checkpoint(path))
    network = create_model(name, **options)
    try:
        network.load_state_dict(convert_official(name, state))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{path}: its weights do not fit {name} ({reason})") from None
    return network, name


def derain_as_authors(network: nn.Module, image: npt.NDArray[Any], rule: SizeRule, device: str) -> UInt8Array:
    """Derain an image as the authors' ``test_all.py`` does.

    It never calls ``eval()``, so that batch normalization takes the statistics of each image, and writes 8 bits by
    truncation. It takes only sizes that the network can; others are padded here, which changes the statistics.

    Args:
        network: on ``device``; its running averages change.
        image: ``(H, W, 3)`` RGB, uint8 or float in [0, 1].
        rule: the network's size rule.
        device: where the network is.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    derained = derain_planes(network, to_planes(image), rule, device, batch_statistics=True)
    return to_uint8(to_hwc(derained), "truncate")
