"""Report words that the project no longer uses, each with its replacement.

    python scripts/check_words.py [PATH ...]

By default this reads ``src``, ``docs``, ``README.md`` and ``CONTRIBUTING.md``. It prints one ``file:line`` per use
and exits with 1 if there is any. A line that needs such a word carries the marker ``check-words: ignore``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_PATHS = ("src", "docs", "README.md", "CONTRIBUTING.md")
SUFFIXES = {".py", ".md", ".toml", ".yaml", ".yml", ".html", ".js", ".css", ".txt"}
MARKER = "check-words: ignore"

#: Pattern of a retired word (underscores count as word boundaries) and what to write instead.
RETIRED = {
    r"told": "given, set; reported, printed",
    r"decoys?": "distractor",
    r"before[ -]?hand": "in advance",
    r"mend(?:ed|s|ing)?": "fix",
    r"taught": "trained",
    r"lessons?": "target, finding",
    r"wish(?:es)?": "options, request",
    r"refusals?": "rejection, error",
    r"dry\s+photographs?": "rain-free image",
}
_PATTERN = re.compile(
    r"(?<![A-Za-z])(?:" + "|".join(f"(?P<word{i}>{word})" for i, word in enumerate(RETIRED)) + r")(?![A-Za-z])",
    re.IGNORECASE,
)


def find_retired(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line number, the word and its replacement for each use of a retired word."""
    lines = text.splitlines()
    replacements = list(RETIRED.values())
    for match in _PATTERN.finditer(text):
        line = text.count("\n", 0, match.start())
        if MARKER not in lines[line]:
            index = next(i for i in range(len(replacements)) if match.group(f"word{i}") is not None)
            yield line + 1, " ".join(match.group().split()), replacements[index]


def text_files(paths: list[Path]) -> Iterator[Path]:
    """Yield the text files among ``paths`` and in the folders among them, sorted."""
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in files if file.suffix in SUFFIXES)


def main(arguments: list[str]) -> int:
    """Print every use and return the exit code."""
    paths = [Path(argument) for argument in arguments] or [ROOT / path for path in DEFAULT_PATHS]
    count = 0
    for file in text_files(paths):
        name = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
        for line, word, replacement in find_retired(file.read_text(encoding="utf-8")):
            print(f"{name}:{line}: '{word}' is retired; use: {replacement}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
