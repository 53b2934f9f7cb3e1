"""Number of modules and import depth per folder: `python -m scripts.rooms [FOLDER]`.

A room is a folder of modules. Its floors are the longest chain of imports among its own modules. `(all)`
counts a whole top folder.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

TOPS = (
    "analysis",
    "workbench",
    "pages",
    "store",
    "demo",
    "headlamp",
    "training",
    "bench",
    "scripts",
    "tests",
)
Arrows = Mapping[str, Collection[str]]


def list_imports(tree: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of each import, at any depth: statements, import_module("x"), __import__("x")."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and call_name(node).split(".")[-1] in {"import_module", "__import__"}:
            for value in [*node.args[:1], *(word.value for word in node.keywords if word.arg == "name")]:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield node.lineno, _absolute(value.value, package)


def _absolute(name: str, package: tuple[str, ...]) -> str:
    """`..x` in package (a, b) is a.x; an absolute name stays unchanged."""
    level = len(name) - len(name.lstrip("."))
    return ".".join([*package[: len(package) - level + 1], name.lstrip(".")]).strip(".") if level else name


def call_name(call: ast.Call, names: Mapping[str, str] | None = None) -> str:
    """`torch.load` of `torch.load(...)`, also where torch was list_imports under another name."""
    parts: list[str] = []
    node = call.func
    while isinstance(node, ast.Attribute):
        parts, node = [node.attr, *parts], node.value
    first = node.id if isinstance(node, ast.Name) else "?"
    return ".".join([(names or {}).get(first, first), *parts])


def sources(root: Path) -> dict[str, Path]:
    """Dotted name → file of every module; a package's `__init__` is named like its folder."""
    found = {}
    for path in sorted(path for top in TOPS for path in root.glob(f"{top}/**/*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module → the modules it imports."""
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        package = tuple(name.split(".")[: None if path.stem == "__init__" else -1])
        names = list_imports(ast.parse(path.read_text(encoding="utf-8")), package)
        found[name] = {module for _, one in names if (module := module_of(one, modules))} - {name}
    return found


def module_of(name: str, modules: Collection[str]) -> str:
    """The module that an list_imports name is, or lies in; empty for a library's."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def floors(names: Collection[str], below: Arrows) -> int:
    """The longest chain of imports among these modules. RuntimeError for a cycle."""
    heights: dict[str, int] = {}

    def height(name: str, above: tuple[str, ...]) -> int:
        if name in above:
            raise RuntimeError("a cycle of imports: " + " → ".join([*above[above.index(name) :], name]))
        if name not in heights:
            lower = (height(one, (*above, name)) for one in below[name] if one in names)
            heights[name] = 1 + max(lower, default=0)
        return heights[name]

    return max((height(name, ()) for name in names), default=0)


def table(root: Path) -> list[tuple[str, int, int]]:
    """(room, modules, floors), each top folder whole and then each of its folders; packages not counted."""
    modules = sources(root)
    below = arrows(modules)
    named = [name for name, path in modules.items() if path.stem != "__init__" or below[name]]
    rows = []
    for top in TOPS:
        whole = [name for name in named if name == top or name.startswith(f"{top}.")]
        if whole:
            rows.append((f"{top} (all)", len(whole), floors(set(whole), below)))
        folders = {modules[name].parent.relative_to(root).as_posix() for name in whole}
        for folder in sorted(folders):
            own = {name for name in whole if modules[name].parent == root / folder}
            rows.append((folder, len(own), floors(own, below)))
    return rows


if __name__ == "__main__":
    print(f"{'room':36}{'modules':>8}{'floors':>8}")
    for room, count, height in table(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()):
        print(f"{room:36}{count:8}{height:8}")
