"""Metrics of restoration quality."""

from .full_reference import PROTOCOLS, Protocol, luma, psnr, ssim

__all__ = ["PROTOCOLS", "Protocol", "luma", "psnr", "ssim"]
