"""The documentation: links resolve, named files exist, and the retired words are found."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_documents_and_scripts_that_are_named_exist():
    files = [*PAGES, *ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.yaml"), *ROOT.glob("src/**/*.toml")]
    named = re.compile(r"\b(?:docs/[\w/-]+\.md|(?:benchmarks|scripts)/\w+\.py)\b")
    missing = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in named.findall(file.read_text(encoding="utf-8"))
        if not (ROOT / name).exists()
    }
    assert not missing


def test_contributing_lists_the_layers_of_the_import_contract():
    contract = re.search(r"^layers = \[\n(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)
    layers = re.findall(r'"(.*)"', contract.group(1))
    listed = "\n".join("    " + layer.replace("derain.", "").replace(" | ", ", ") for layer in layers)
    assert listed in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def check_words():
    spec = importlib.util.spec_from_file_location("check_words", ROOT / "scripts" / "check_words.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_retired_words_are_found_with_their_replacement(check_words, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("A toldo.\nIt is Told_here; a dry\nphotograph.\nlessons  # check-words: ignore\n", encoding="utf-8")
    assert check_words.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{page}:2: 'Told' is retired; use: given, set; reported, printed",
        f"{page}:2: 'dry photograph' is retired; use: rain-free image",
    ]
    page.write_text("A rain-free image.\n", encoding="utf-8")
    assert check_words.main([str(page)]) == 0
