"""Recipes as YAML files: shipped ones, bases, overrides, and one-line explanations of errors.

Shipped recipes are in ``recipes/``; a recipe with ``base: NAME`` states only what differs from that recipe.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from derain.errors import RecipeError

from .recipe import AnyRecipe, Recipe, SegmenterRecipe

_SHIPPED = Path(__file__).parent / "recipes"
#: Fields that say the same in different units: setting one removes the other.
_ALTERNATIVES = (("steps", "epochs"), ("every", "epochs"))


def shipped() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in _SHIPPED.glob("*.yaml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> AnyRecipe:
    """A recipe by name or path, with overrides.

    Args:
        name_or_path: a name of :func:`shipped`, or a YAML file.
        overrides: such as ``optimizer.lr=5e-4``, ``losses.1.weight=0``, ``data.clean=[photos]``; values
            are YAML.

    Raises:
        RecipeError: no such recipe, not YAML, or a field that is unknown or invalid; the message
            names the field and what it may be.
    """
    content = _read(str(name_or_path))
    for override in overrides:
        _override(content, override)
    return check_recipe(content, str(name_or_path))


def check_recipe(content: dict[str, Any], where: str) -> AnyRecipe:
    """A recipe from plain data; of a segmenter if it has the field ``segmenter``.

    Args:
        content: the fields.
        where: the source, for error messages.

    Raises:
        RecipeError: as for :func:`load_recipe`.
    """
    kind: type[AnyRecipe] = SegmenterRecipe if "segmenter" in content else Recipe
    try:
        return kind.model_validate(_parse_exponents(content))
    except ValidationError as error:
        raise RecipeError(f"{where}: {_explain(error)}") from None


def _read(text: str) -> dict[str, Any]:
    """A recipe file as plain data, merged into its ``base``."""
    is_path = text.endswith((".yaml", ".yml")) or "/" in text
    path = Path(text) if is_path else _SHIPPED / f"{text}.yaml"
    if not path.is_file():
        known = ", ".join(shipped())
        hint = "no such recipe file; check the name" if is_path else f"unknown recipe; choose one of {known}, or a file"
        raise RecipeError(f"{text}: {hint}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML ({str(error).splitlines()[0]}); fix the file") from None
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: not a recipe; it must consist of fields and values")
    content.setdefault("name", path.stem)
    base = content.pop("base", None)
    if base == text:
        raise RecipeError(f"{path}: base: is the recipe itself; name another")
    return content if base is None else _merged(_read(str(base)), content)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Fields of ``changes`` over those of ``base``; lists are replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        _set(merged, key, _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value)
    return merged


def _set(fields: dict[str, Any], key: str, value: Any) -> None:
    """Set a field, and remove its alternatives."""
    fields[key] = value
    for names in _ALTERNATIVES:
        if key in names and value is not None:
            for other in set(names) - {key}:
                fields.pop(other, None)


def _override(content: dict[str, Any], text: str) -> None:
    """Apply an override to plain data, in place."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise RecipeError(f"{text}: an override is field=value, such as optimizer.lr=5e-4")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"{text}: its value is not YAML; quote it") from None
    *parents, last = key.split(".")
    target: Any = content
    for name in parents:
        if isinstance(target, list) and name.isdigit() and int(name) < len(target):
            target = target[int(name)]
        elif isinstance(target, dict):
            target = target.setdefault(name, {})
        else:
            raise RecipeError(f"{text}: there is no {key}")
    if isinstance(target, list) and last.isdigit() and int(last) < len(target):
        target[int(last)] = parsed
    elif isinstance(target, dict):
        _set(target, last, parsed)
    else:
        raise RecipeError(f"{text}: there is no {key}")


def _parse_exponents(value: Any) -> Any:
    """Numbers such as ``1e-3``, which YAML 1.1 reads as text."""
    if isinstance(value, dict):
        return {key: _parse_exponents(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_parse_exponents(inner) for inner in value]
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _explain(error: ValidationError) -> str:
    """One line for the first error, and the number of further ones."""
    errors = error.errors()
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"] if part != "function-before")
    if first["type"] == "extra_forbidden":
        message = "unknown field; see `derain train NAME --show` for the known ones"
    elif first["type"] == "missing":
        message = "is missing"
    else:
        message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{field}: {message}{more}" if field else f"{message}{more}"
