"""Where Headlamp's rooms lie, and that Python finds them before anything else of their names.

In a clone they lie beside this folder; in an installed wheel below it, in `house/`, so that names as common
as `store` never lie in site-packages.
"""

from __future__ import annotations

import site
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
HOUSE = HERE / "house" if (HERE / "house" / "app.py").is_file() else HERE.parent
"""The folder with app.py, pages, workbench, analysis, store and demo."""
ROOMS = ("analysis", "demo", "pages", "store", "workbench")
"""The top-level names that Headlamp's modules are imported by."""


_WARNED_OF: set[Path] = set()


class NameTaken(ImportError):
    """A module of another program has a name of Headlamp's and was imported first."""


def put_house_first() -> None:
    """Let Headlamp's rooms be found first. Raises NameTaken where another module already has their name."""
    for name in ROOMS:
        module = sys.modules.get(name)
        if module is not None and not any(HOUSE in place.parents for place in _list_places(module)):
            where = next(_list_places(module), None)
            raise NameTaken(
                f"a module {name!r} was imported from {where or 'elsewhere'} before headlamp, which has one "
                "of that name; rename yours, or use Headlamp in another process",
                name=name,
            )
    sys.path[:] = [str(HOUSE), *(entry for entry in sys.path if entry != str(HOUSE))]


def warn_of_hidden() -> None:
    """Warn, once, of each module in the user's folders that Headlamp's own now hide."""
    for place in set(list_hidden()) - _WARNED_OF:
        _WARNED_OF.add(place)
        warnings.warn(
            f"{place} cannot be imported beside headlamp: `import {place.stem}` gives Headlamp's module of "
            "that name; rename yours",
            stacklevel=3,
        )


def list_hidden() -> Iterator[Path]:
    """The user's own files, and folders with code, on Python's path that have a room's name."""
    installed = [Path(entry).resolve() for entry in site.getsitepackages()]
    for entry in dict.fromkeys(Path(entry or ".").resolve() for entry in sys.path):
        if entry == HOUSE or any(entry == one or one in entry.parents for one in installed):
            continue
        for name in ROOMS:
            folder, file = entry / name, entry / f"{name}.py"
            if file.is_file():
                yield file
            elif folder.is_dir() and any(folder.glob("*.py")):
                yield folder


def _list_places(module: ModuleType) -> Iterator[Path]:
    """The file of a module and the folders of a package."""
    names = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return (Path(name).resolve() for name in names if name)
