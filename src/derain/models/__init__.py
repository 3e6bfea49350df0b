"""The networks. Nothing in this package reads files or depends on training code."""

from .registry import MODELS, ModelInfo, create_model, describe_network, model_info
from .sizes import SizeRule

__all__ = ["MODELS", "ModelInfo", "SizeRule", "create_model", "describe_network", "model_info"]
