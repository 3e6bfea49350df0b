"""Metrics of restoration quality."""

from .full_reference import luma, psnr_y

__all__ = ["luma", "psnr_y"]
