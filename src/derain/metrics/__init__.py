"""Metrics of restoration quality."""

from .brisque import BrisqueModel, brisque
from .full_reference import PROTOCOLS, Protocol, luma, psnr, ssim
from .no_reference import niqe
from .perceptual import LPIPS, lpips, published_lpips

__all__ = [
    "LPIPS",
    "PROTOCOLS",
    "BrisqueModel",
    "Protocol",
    "brisque",
    "lpips",
    "luma",
    "niqe",
    "psnr",
    "published_lpips",
    "ssim",
]
