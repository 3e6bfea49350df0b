"""Trained weights: what exists, where it lies, how it becomes a network."""

from .store import Manifest, Weight, list_models, load_model, locate, manifest, save_file

__all__ = ["Manifest", "Weight", "list_models", "load_model", "locate", "manifest", "save_file"]
