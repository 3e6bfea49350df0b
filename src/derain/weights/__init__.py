"""Trained weights: what exists, where it lies, how it becomes a network."""

from .store import Manifest, Weight, average, list_models, load_model, locate, manifest, save_file

__all__ = ["Manifest", "Weight", "average", "list_models", "load_model", "locate", "manifest", "save_file"]
