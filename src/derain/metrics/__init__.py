"""Metrics of restoration quality."""

from .full_reference import PROTOCOLS, Protocol, luma, psnr, ssim
from .no_reference import niqe

__all__ = ["PROTOCOLS", "Protocol", "luma", "niqe", "psnr", "ssim"]
