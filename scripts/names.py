"""Check names: participles as function names, and public names defined twice: `python -m scripts.names`.

A function is a verb in the imperative (`read_header`, not `told`); a property may be an adjective. A name
stands for one thing in the app; commands (`list`, `export`) and `main` are exempt.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APP = ("analysis", "pages", "store", "workbench")
SOURCES = (*APP, "bench", "demo", "headlamp", "scripts", "training")
NO_PARTICIPLE = frozenset(
    "bed breed embed exceed feed need proceed seed shed shred speed succeed weed".split()
)
IRREGULAR = frozenset(
    "begun born bound brought built caught chosen done drawn driven fallen felt forgotten found "
    "frozen given gone grown heard held hidden kept known laid learnt led left lent lost made meant "
    "met paid said seen sent shown sought spoken spent stolen taken taught thought told torn "
    "understood woken won worn written".split()
)
EXEMPT = frozenset({"main"})


def is_participle(name: str) -> bool:
    """Whether the first word of a function's name is a past participle."""
    word = name.split("_")[0]
    return word in IRREGULAR or (word.endswith("ed") and word not in NO_PARTICIPLE)


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a method is read like a field, so that an adjective is its right name."""
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def is_command(function: ast.AST) -> bool:
    """Whether a function is a command of a Typer app, whose name is the command's."""
    decorators = getattr(function, "decorator_list", [])
    return any(ast.unparse(decorator).split("(")[0].endswith(".command") for decorator in decorators)


def public_functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(qualified name, definition) of the public functions and methods of a module."""
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
        for function, prefix in [
            (node, ""),
            *((method, f"{getattr(node, 'name', '')}.") for method in inner),
        ]:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and not function.name.startswith(
                "_"
            ):
                yield prefix + function.name, function


def sources(folders: tuple[str, ...]) -> dict[str, ast.Module]:
    """Path from the root → the module's syntax tree."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


def participles(trees: dict[str, ast.Module]) -> tuple[list[str], int]:
    """(functions named by a participle, how many public functions there are)."""
    functions = [(path, *entry) for path, tree in trees.items() for entry in public_functions(tree)]
    named = [
        f"{path}: {name}"
        for path, name, function in functions
        if is_participle(function.name) and not is_property(function)
    ]
    return named, len(functions)


def homonyms(trees: dict[str, ast.Module], kinds: tuple[type[ast.AST], ...]) -> dict[str, list[str]]:
    """Public top-level name → the modules that define it, where these are several."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees.items():
        for node in tree.body:
            name = getattr(node, "name", "_")
            if (
                isinstance(node, kinds)
                and not name.startswith("_")
                and name not in EXEMPT
                and not is_command(node)
            ):
                places[name].append(path)
    return {name: paths for name, paths in sorted(places.items()) if len(paths) > 1}


def main() -> int:
    """Print the lists and the counts; 1 where a participle or a homonymous class is left."""
    app = sources(APP)
    named, total = participles(sources(SOURCES))
    classes = homonyms(app, (ast.ClassDef,))
    functions = homonyms(app, (ast.FunctionDef, ast.AsyncFunctionDef))
    for line in named:
        print(f"participle  {line}")
    for kind, found in (("class", classes), ("function", functions)):
        for name, paths in found.items():
            print(f"{kind:<10}  {name}: {', '.join(paths)}")
    print(
        f"{total} public functions: {len(named)} named by a participle; "
        f"{len(classes)} class names and {len(functions)} function names in more than one module of the app"
    )
    return 1 if named or classes else 0


if __name__ == "__main__":
    sys.exit(main())
