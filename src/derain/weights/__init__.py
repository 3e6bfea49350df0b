"""Pretrained models: which exist, where their files are, how they become networks."""

from .manifest import Manifest, PretrainedModel, list_models, manifest
from .store import load_model, locate, save_file

__all__ = ["Manifest", "PretrainedModel", "list_models", "load_model", "locate", "manifest", "save_file"]
