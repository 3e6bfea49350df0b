"""Errors that a user may meet: every message says what is wrong, where, and how to mend it."""

from __future__ import annotations


class DerainError(Exception):
    """Base of every error that derain raises on purpose; its text is one line fit to be shown."""


class InputError(DerainError):
    """An input file, array or stream cannot be used."""


class OutputError(DerainError):
    """A result cannot be written."""


class ModelError(DerainError):
    """A model name, its settings or its weights cannot be used."""


class DeviceError(DerainError):
    """The requested device or precision is not available on this machine."""


class RecipeError(DerainError):
    """A training recipe, its overrides or its surroundings cannot be used."""
