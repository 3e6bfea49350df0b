"""Metrics of restoration quality, and of segmentation on derained images."""

from .brisque import BrisqueModel, brisque
from .full_reference import PROTOCOLS, Protocol, luma, psnr, ssim
from .no_reference import niqe
from .perceptual import LPIPS, lpips, published_lpips
from .semantic import class_iou, confusion_matrix, mean_iou
from .temporal import flicker

__all__ = [
    "LPIPS",
    "PROTOCOLS",
    "BrisqueModel",
    "Protocol",
    "brisque",
    "class_iou",
    "confusion_matrix",
    "flicker",
    "lpips",
    "luma",
    "mean_iou",
    "niqe",
    "psnr",
    "published_lpips",
    "ssim",
]
