"""The pretrained models that ``manifest.toml`` describes, and the imported ones, by name."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from derain.errors import ModelError
from derain.fetch import home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class PretrainedModel:
    """One entry of the manifest.

    Attributes:
        name: what ``--model`` takes.
        model: key of the network in ``derain.models``.
        file: file name of the safetensors.
        sha256: of the file.
        summary: one line for the list of models.
        license: terms of the checkpoint, including those of its training data.
        data: what it was trained on.
        recipe: how it was trained.
        seed: of the training.
        speed: speed class, ``fast``, ``medium`` or ``slow``.
        figures: measured results, name to value; each name states its protocol.
        limits: where it fails, a sentence each.
        url: where to fetch the file if it is not in the package.
    """

    name: str
    model: str
    file: str
    sha256: str
    summary: str
    license: str
    data: str
    recipe: str
    seed: int
    speed: str
    figures: dict[str, float] = field(default_factory=dict)
    limits: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True)
class Manifest:
    """All pretrained models by name, and aliases."""

    models: dict[str, PretrainedModel]
    aliases: dict[str, str]

    def find(self, name: str) -> PretrainedModel:
        """The model behind a name or alias.

        Raises:
            ModelError: unknown name.
        """
        target = self.aliases.get(name, name)
        if target not in self.models:
            known = ", ".join([*self.aliases, *self.models, *imported_files()])
            raise ModelError(f"unknown model {name!r}; choose one of {known}, or give a .safetensors file")
        return self.models[target]

    def aliases_of(self, name: str) -> list[str]:
        """The other names of a model."""
        return [alias for alias, target in self.aliases.items() if target == name]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest file."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    models = {
        name: PretrainedModel(name=name, **{**entry, "limits": tuple(entry.get("limits", ()))})
        for name, entry in content.get("models", {}).items()
    }
    return Manifest(models, content.get("aliases", {}))


@lru_cache(maxsize=1)
def manifest() -> Manifest:
    """The manifest of the package."""
    return read_manifest(Path(__file__).with_name("manifest.toml"))


def imported_files() -> dict[str, Path]:
    """Checkpoints that ``derain models import`` made, by name."""
    return {p.stem: p for p in sorted((home() / "imported").glob("*.safetensors"))}


def list_models() -> list[str]:
    """The names that ``load_model`` and ``Derainer`` take: aliases, pretrained models, imports."""
    return [*manifest().aliases, *manifest().models, *imported_files()]
