"""Errors shown to users: every message states what is wrong, where, and how to fix it."""

from __future__ import annotations


class DerainError(Exception):
    """Base class of all errors that derain raises deliberately; the message is one line for the user."""


class InputError(DerainError):
    """An input file, array or stream cannot be used."""


class OutputError(DerainError):
    """An output cannot be written."""


class ModelError(DerainError):
    """A model name, its settings or its checkpoint cannot be used."""


class DeviceError(DerainError):
    """The requested device or precision is not available on this machine."""


class RecipeError(DerainError):
    """A training recipe, its overrides or its environment cannot be used."""
