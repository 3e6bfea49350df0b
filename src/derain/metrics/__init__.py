"""Metrics of restoration quality, and of what a segmenter still sees."""

from .brisque import BrisqueModel, brisque
from .full_reference import PROTOCOLS, Protocol, luma, psnr, ssim
from .no_reference import niqe
from .perceptual import LPIPS, lpips, published_lpips
from .semantic import class_iou, confusion_matrix, mean_iou

__all__ = [
    "LPIPS",
    "PROTOCOLS",
    "BrisqueModel",
    "Protocol",
    "brisque",
    "class_iou",
    "confusion_matrix",
    "lpips",
    "luma",
    "mean_iou",
    "niqe",
    "psnr",
    "published_lpips",
    "ssim",
]
