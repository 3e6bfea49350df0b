"""Metrics of restoration quality."""

from .brisque import BrisqueModel, brisque
from .full_reference import PROTOCOLS, Protocol, luma, psnr, ssim
from .no_reference import niqe
from .perceptual import LPIPS, lpips, published_lpips
from .temporal import flicker

__all__ = [
    "LPIPS",
    "PROTOCOLS",
    "BrisqueModel",
    "Protocol",
    "brisque",
    "flicker",
    "lpips",
    "luma",
    "niqe",
    "psnr",
    "published_lpips",
    "ssim",
]
