"""Structure of the package: no import cycles between files; networks are asked by type, not by attribute name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import derain

ROOT = Path(derain.__file__).parent


def module_name(file: Path) -> str:
    parts = ("derain", *file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in ROOT.rglob("*.py")}


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes except those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from runtime_nodes(node)


def imports(name: str) -> set[str]:
    """The modules of the package that a module imports, at any level of it."""
    file = MODULES[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in runtime_nodes(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                found.add(submodule if submodule in MODULES else base)
    return (found & MODULES.keys()) - {name}


def test_no_two_files_import_each_other_even_through_others():
    graph = {name: imports(name) for name in MODULES}
    state: dict[str, str] = {}
    cycles = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        state[name] = "open"
        for target in sorted(graph[name]):
            if state.get(target) == "open":
                cycles.append(" -> ".join((*path[path.index(target) :], target)))
            elif target not in state:
                visit(target, (*path, target))
        state[name] = "done"

    for name in sorted(graph):
        if name not in state:
            visit(name, (name,))
    assert not cycles, "\n".join(cycles)
    assert any(graph.values()), "the test must see imports"


def test_networks_are_asked_by_type():
    """``getattr`` and ``hasattr`` on a network are for derain.models alone; its base.py has the types."""
    pattern = re.compile(r"\b(?:getattr|hasattr)\(\s*(?:\w+\.)*(?:network|model_class\(\w+\)|model)\b")
    offenders = [
        f"{file.relative_to(ROOT)}:{number}"
        for file in MODULES.values()
        if "models" not in file.relative_to(ROOT).parts
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not offenders
