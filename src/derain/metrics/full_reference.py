"""PSNR and SSIM in the protocols of the deraining literature, as named presets.

Different scripts give very different numbers for the same images: the channel (luma or RGB), the
rounding, the SSIM window and its border all matter. A number without its protocol is meaningless, so
every function here takes one by name, and the default is what the Rain100 papers use.

SSIM: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE
TIP 2004, with K1 = 0.01 and K2 = 0.03. All sums run in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from derain.arrays import Quantizer, check_quantizer

ImageBatch = Tensor | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Protocol:
    """How a pair of images is compared.

    Attributes:
        name: key in :data:`PROTOCOLS`.
        channel: ``y`` is the luma of MATLAB's ``rgb2ycbcr`` (BT.601, 16 to 235), rounded to 8 bits;
            ``y-full`` the full-range luma of JPEG, rounded; ``rgb`` the three channels.
        quantizer: how derained floats become 8 bits first, by the script that wrote the files: ``round`` or
            ``truncate``; ``None`` compares floats. Clean floats are always rounded: they come from files.
        window: SSIM's window: ``gauss`` is 11×11 with σ 1.5, ``uniform`` 7×7 with the unbiased
            covariance (scikit-image's default).
        border: ``valid`` omits windows that extend beyond the image, ``zero`` pads with zeros.
        downsampled: both images are first reduced by ``round(min(H, W) / 256)``, as in Wang's
            newer ``ssim.m``; on large images this raises SSIM considerably.
        used_by: papers or scripts that use it.
    """

    name: str
    channel: Literal["y", "y-full", "rgb"]
    quantizer: Quantizer | None = "round"
    window: Literal["gauss", "uniform"] = "gauss"
    border: Literal["valid", "zero"] = "valid"
    downsampled: bool = False
    used_by: str = ""

    def quantization(self) -> str:
        """How results are compared, in words."""
        words = {"round": "results rounded to 8 bits", "truncate": "results truncated to 8 bits"}
        return "float results" if self.quantizer is None else words[self.quantizer]


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        Protocol("y", "y", used_by="the Rain100 literature: PReNet, MPRNet, later Rain2Avoid"),
        Protocol("rgb", "rgb", quantizer="truncate", used_by="SAPNet's tables"),
        Protocol("y-downsampled", "y", downsampled=True, used_by="SGINet (statistic.m)"),
        Protocol("rgb-uniform", "rgb", window="uniform", used_by="Rain2Avoid's first paper (scikit-image)"),
        Protocol("float", "rgb", quantizer=None, border="zero", used_by="JDNet's eval"),
        Protocol("y-full", "y-full", used_by="scripts that convert with Pillow or OpenCV"),
    )
}

# Luma weights in integers, so that rounding is exact: MATLAB's in 1/255000, JPEG's in 1/1000.
_MATLAB_LUMA = (65_481, 128_553, 24_966)
_JPEG_LUMA = (299, 587, 114)


def protocol_named(name: str, quantizer: Quantizer | None = None) -> Protocol:
    """A protocol by name.

    Args:
        name: a key of :data:`PROTOCOLS`.
        quantizer: instead of the protocol's own.

    Raises:
        ValueError: unknown name.
        InputError: unknown quantizer.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    if quantizer is None:
        return PROTOCOLS[name]
    check_quantizer(quantizer)
    return replace(PROTOCOLS[name], quantizer=quantizer)


def psnr(derained: ImageBatch, clean: ImageBatch, protocol: str | Protocol = "y") -> Tensor:
    """Peak signal-to-noise ratio.

    Args:
        derained, clean: ``(N, 3, H, W)`` or ``(3, H, W)`` float in [0, 1] or uint8 tensors, or
            ``(H, W, 3)`` uint8 arrays; RGB, of equal size.
        protocol: a key of :data:`PROTOCOLS`, or a protocol. Downsampling and the window apply to SSIM only.

    Returns:
        ``(N,)`` float64, dB; infinity where the images are equal under the protocol.

    Raises:
        ValueError: shapes that differ or are not images, unknown protocol.
    """
    rule = protocol_named(protocol) if isinstance(protocol, str) else protocol
    ours, truth, peak = _prepare(derained, clean, rule)
    if rule.quantizer is None:
        ours, truth = ours.clamp(0, peak), truth.clamp(0, peak)
    error = (ours - truth).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(peak**2 / error)


def ssim(derained: ImageBatch, clean: ImageBatch, protocol: str | Protocol = "y") -> Tensor:
    """Structural similarity.

    Args:
        derained, clean: as for :func:`psnr`; at least as large as the window (11 or 7 pixels).
        protocol: a key of :data:`PROTOCOLS`, or a protocol.

    Returns:
        ``(N,)`` float64; 1 where the images are equal. Channels are averaged.

    Raises:
        ValueError: shapes that differ, are not images, or are too small; unknown protocol.
    """
    rule = protocol_named(protocol) if isinstance(protocol, str) else protocol
    ours, truth, peak = _prepare(derained, clean, rule)
    if rule.downsampled:
        ours, truth = _wang_downsample(ours), _wang_downsample(truth)
    kernel = gaussian_window(11, 1.5) if rule.window == "gauss" else torch.full((7,), 1 / 7, dtype=torch.float64)
    if min(ours.shape[2:]) < len(kernel) and rule.border == "valid":
        raise ValueError(f"SSIM needs images of at least {len(kernel)} pixels per side, not {tuple(ours.shape[2:])}")
    # scikit-image's uniform window uses the unbiased estimate, the Gaussian one does not.
    unbias = len(kernel) ** 2 / (len(kernel) ** 2 - 1) if rule.window == "uniform" else 1.0
    return ssim_map(ours, truth, kernel, peak, zero_border=rule.border == "zero", unbias=unbias).mean(dim=(1, 2, 3))


def ssim_map(
    first: Tensor, second: Tensor, window: Tensor, peak: float, *, zero_border: bool, unbias: float = 1.0
) -> Tensor:
    """The SSIM index at each position; differentiable, in the dtype of the images.

    Args:
        first, second: ``(N, C, H, W)``.
        window: ``(K,)``, the separable window, with sum 1.
        peak: the largest possible value.
        zero_border: pad with zeros and keep the size; otherwise use complete windows only.
        unbias: factor on variances and covariance.

    Returns:
        ``(N, C, H, W)``, or K - 1 smaller per side without the border.
    """
    window = window.to(first)
    padding = len(window) // 2 if zero_border else 0
    mean_a, mean_b = _smooth(first, window, padding), _smooth(second, window, padding)
    var_a = unbias * (_smooth(first * first, window, padding) - mean_a * mean_a)
    var_b = unbias * (_smooth(second * second, window, padding) - mean_b * mean_b)
    cov = unbias * (_smooth(first * second, window, padding) - mean_a * mean_b)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def luma(images: Tensor, weights: Literal["matlab", "jpeg"] = "matlab") -> Tensor:
    """Luma of 8-bit images, rounded half up as MATLAB does.

    Args:
        images: ``(N, 3, H, W)`` integers from 0 to 255, RGB, any dtype.
        weights: ``matlab`` for ``rgb2ycbcr`` (16 to 235), ``jpeg`` for the full range (0 to 255).

    Returns:
        ``(N, 1, H, W)`` float64 of integers.
    """
    numbers, unit, offset = (_MATLAB_LUMA, 255_000, 16) if weights == "matlab" else (_JPEG_LUMA, 1_000, 0)
    integers = images.to(torch.int64)
    weighted = sum(integers[:, i] * n for i, n in enumerate(numbers))
    assert isinstance(weighted, Tensor)
    return (offset + (2 * weighted + unit) // (2 * unit)).unsqueeze(1).to(torch.float64)


def _prepare(derained: ImageBatch, clean: ImageBatch, rule: Protocol) -> tuple[Tensor, Tensor, float]:
    """Both images in the protocol's channel, float64, and the peak value there."""
    ours, truth = _as_batch(derained, rule.quantizer), _as_batch(clean, rule.quantizer and "round")
    if ours.shape != truth.shape:
        raise ValueError(f"the images differ in size: {tuple(ours.shape)} and {tuple(truth.shape)}")
    truth = truth.to(ours.device)
    if rule.quantizer is None:
        return ours, truth, 1.0
    if rule.channel != "rgb":
        weights: Literal["matlab", "jpeg"] = "matlab" if rule.channel == "y" else "jpeg"
        ours, truth = luma(ours, weights), luma(truth, weights)
    return ours, truth, 255.0


def _as_batch(images: ImageBatch, quantizer: Quantizer | None) -> Tensor:
    """``(N, 3, H, W)`` float64: integers from 0 to 255 by a quantizer, or in [0, 1] without one."""
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 3:
            raise ValueError(f"arrays must be (H, W, 3) uint8, not {images.shape} {images.dtype}")
        images = torch.from_numpy(images.copy()).permute(2, 0, 1)  # a copy, because it may be read-only
    batch = images if images.ndim == 4 else images.unsqueeze(0)
    if batch.ndim != 4 or batch.shape[1] != 3:
        raise ValueError(f"images must be (N, 3, H, W), RGB, not {tuple(images.shape)}")
    values = batch.to(torch.float64)
    if batch.dtype == torch.uint8:
        return values / 255 if quantizer is None else values
    if quantizer == "round":
        return torch.floor(values.clamp(0, 1) * 255 + 0.5)
    # Scaled in the tensor's own precision, as the scripts do that truncate.
    return values if quantizer is None else torch.floor(batch.clamp(0, 1) * 255).to(torch.float64)


def gaussian_window(size: int, sigma: float) -> Tensor:
    """``(size,)`` float64 with sum 1."""
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


def _smooth(batch: Tensor, kernel: Tensor, padding: int) -> Tensor:
    """Filter each channel with the separable window."""
    channels = batch.shape[1]
    column = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    row = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    rows = F.conv2d(batch, column, padding=(padding, 0), groups=channels)
    return F.conv2d(rows, row, padding=(0, padding), groups=channels)


def _wang_downsample(batch: Tensor) -> Tensor:
    """``imfilter(img, ones(f) / f², 'symmetric')(1:f:end, 1:f:end)`` with f = round(min(H, W) / 256)."""
    height, width = batch.shape[2:]
    factor = max(1, math.floor(min(height, width) / 256 + 0.5))
    if factor == 1:
        return batch
    before = (factor - 1) // 2  # MATLAB's origin of an even window
    after = factor - 1 - before
    rows = _symmetric(height, before, after).to(batch.device)
    columns = _symmetric(width, before, after).to(batch.device)
    padded = batch[:, :, rows][:, :, :, columns]
    return F.avg_pool2d(padded, factor, stride=factor) if factor > 1 else padded


def _symmetric(length: int, before: int, after: int) -> Tensor:
    """Indices of MATLAB's symmetric padding: the border pixel is repeated."""
    position = torch.arange(-before, length + after) % (2 * length)
    return torch.minimum(position, 2 * length - 1 - position)
