"""What the package promises: its names, and what it never imports."""

import ast
from pathlib import Path

import store

FORBIDDEN = {"streamlit", "torch", "transformers", "plotly", "analysis", "workbench", "pages", "pickle"}


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    assert len(store.__all__) == len(set(store.__all__))
    for name in store.__all__:
        found = getattr(store, name)
        assert name in ("Json", "FileKey", "JobState") or found.__doc__, name


def test_every_error_is_a_store_error_named_in_the_tree() -> None:
    from store import errors

    for name, found in vars(errors).items():
        if isinstance(found, type) and issubclass(found, Exception):
            assert issubclass(found, store.StoreError)
            assert name in (errors.__doc__ or "")
            assert name in store.__all__


def test_store_imports_no_other_layer() -> None:
    for file in Path(store.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & FORBIDDEN, file
