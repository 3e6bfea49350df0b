"""Metrics of restoration quality, and of segmentation on derained images."""

from .brisque import BrisqueModel, brisque
from .full_reference import PROTOCOLS, Protocol, luma, protocol_named, psnr, ssim
from .no_reference import niqe
from .perceptual import LPIPS, lpips, published_lpips
from .semantic import class_accuracy, class_iou, confusion_matrix, mean_iou
from .temporal import flicker
from .unique import UNIQUE, unique

__all__ = [
    "LPIPS",
    "PROTOCOLS",
    "UNIQUE",
    "BrisqueModel",
    "Protocol",
    "brisque",
    "class_accuracy",
    "class_iou",
    "confusion_matrix",
    "flicker",
    "lpips",
    "luma",
    "mean_iou",
    "niqe",
    "protocol_named",
    "psnr",
    "published_lpips",
    "ssim",
    "unique",
]
