"""Types commands of docs/seeds.md on tiny sets."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

SEEDS = Path(__file__).parents[2] / "docs" / "seeds.md"


@pytest.fixture
def follow(command, tmp_path, monkeypatch) -> Callable[..., str]:
    """Types the command that docs/seeds.md gives for a line of a README; gives what was printed.

    ``step`` is the line and the command, a row of the table there; ``words`` are appended, to shorten training or in
    place of weights that have to be downloaded, and ``places`` replaced, such as ``ROOT``.
    """
    monkeypatch.setenv("DERAIN_HOME", str(tmp_path / "home"))
    rows = SEEDS.read_text(encoding="utf-8")

    def run(step: tuple[str, str], *words: object, **places: object) -> str:
        line, ours = step
        assert f"| {line} | `{ours}` |" in rows
        name, *typed = shlex.split(ours)
        assert name == "derain"
        for place, path in places.items():
            typed = [word.replace(place, str(path)) for word in typed]
        code, out, err = command(*typed, *words)
        assert code == 0, err
        return out

    return run
