"""The networks. Nothing here reads files or knows of training."""

from .registry import MODELS, ModelInfo, SizeRule, create_model, model_info

__all__ = ["MODELS", "ModelInfo", "SizeRule", "create_model", "model_info"]
