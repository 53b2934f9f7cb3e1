"""The rooms (CONTRIBUTING.md): which stands on which, how many modules each holds, what pages take."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from scripts.rooms import TOPS, list_imports, module_of, sources

Floors = Sequence[Sequence[str]]
BASE = ""
"""Modules that lie directly in a folder, but for those that its order names."""
ORDER: dict[str, Floors] = {
    "analysis": (
        [BASE],
        ["anatomy", "checkpoints"],
        ["opening"],
        ["intervening"],
        ["running"],
        ["reading"],
        ["neurons", "skills", "super_experts", "levers"],
        ["unlearning", "figures"],
        ["recipes", "harness", "saving"],
    ),
    "analysis.unlearning": (
        ["scenes"],
        ["guards", "edits"],
        ["results"],
        ["robustness"],
        ["evaluating"],
        ["judging"],
    ),
    "workbench": (
        [BASE],
        ["neurons", "experts", "skills", "saving"],
        ["generating", "unlearning"],
        ["levers"],
        ["findings", "jobs"],
        ["cli"],
        ["__main__"],
    ),
    "workbench.cli": (["shared"], ["commands", "serving"], ["app"]),
    "pages": (["shared"], ["explore", "intervene", "record"]),
    "pages.shared": ([BASE, "jobs", "links", "saving", "verdicts"],),
}
"""Folder → its rooms, the lowest first. A room imports lower ones only, none beside it."""
MIXED = {"pages.shared"}
"""Folders whose rooms may import each other: the sidebar shows jobs, and jobs are shown with its parts."""
MOST_MODULES = 16
UNCOUNTED = {"store", "tests/store"}
DOOR = "store/__init__.py"
"""The one module that repeats others' names: what the store offers."""
SECTIONS = {"explore", "intervene", "record"}
PAGES_CALL = {
    *("analysis.anatomy.addresses.parse_address", "analysis.intervening.clamps.parse_clamp"),
    *("analysis.checkpoints.devices.list_devices", "analysis.checkpoints.hub.hub_model"),
    *(
        "analysis.checkpoints.sources.is_hub_file",
        "analysis.checkpoints.sources.is_hub_id",
        "analysis.checkpoints.sources.split_adapter",
        "analysis.opening.model_ref.resolve_ref",
    ),
    *("analysis.running.conversations.parse_turns", "analysis.running.conversations.write_turns"),
    *("analysis.running.differences.log_odds_change", "analysis.running.differences.mark_differences"),
    *("analysis.skills.metrics.wilson_interval", "analysis.super_experts.controls.parse_parts"),
    *("analysis.super_experts.controls.list_super_parts", "analysis.super_experts.criterion.collect_maxima"),
    *(
        "analysis.super_experts.criterion.choose_rule",
        "analysis.super_experts.verdict.explain_none",
        "analysis.super_experts.verdict.find_super_experts",
        "analysis.unlearning.judging.form_names.name_form",
        "analysis.unlearning.methods.name_method",
        "analysis.unlearning.guards.operating.measure_abstention",
    ),
    "analysis.unlearning.guards.operating.choose_point",
}
"""The functions, figures apart, that pages call: they read what is typed and compare numbers."""


def breaches(root: Path) -> list[str]:
    """Every breach of the rooms' rules under root, as "file:line what"."""
    modules = sources(root)
    found = [*_too_full(root, modules), *_outside_the_order(root)]
    rays: list[str] = []
    for name, path in modules.items():
        package = tuple(name.split(".")[: None if path.stem == "__init__" else -1])
        tree, place = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(root).as_posix()
        if place != DOOR and not place.startswith("tests/") and _only_repeats(tree):
            found.append(f"{place}:1 only repeats what others have")
        for line, target in list_imports(tree, package):
            top = target.split(".")[0]
            said = [*_against_the_order(name, target), *_of_pages(name, target, modules)]
            if top == "plotly" and not place.startswith(("analysis/figures/", "tests/")):
                said.append("imports plotly, which stays in analysis/figures")
            if top == "ray" and not place.startswith("tests/") and place not in rays:
                rays.append(place)
                if not place.startswith("workbench/jobs/") or len(rays) > 1:
                    said.append("imports ray, which stays in one module of workbench/jobs")
            found += [f"{place}:{line} {what}" for what in said]
    return found


def _too_full(root: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    counted = [path for path in modules.values() if path.stem != "__init__"]
    folders = [path.parent.relative_to(root).as_posix() for path in counted]
    for folder in sorted(set(folders) - UNCOUNTED):
        if folders.count(folder) > MOST_MODULES:
            yield f"{folder}:1 holds {folders.count(folder)} modules, more than {MOST_MODULES}"


def _outside_the_order(root: Path) -> Iterator[str]:
    """Folders with modules that an order leaves out."""
    for folder, floors in ORDER.items():
        named = {room for floor in floors for room in floor}
        for path in sorted((root / folder.replace(".", "/")).glob("*/")):
            if any(path.rglob("*.py")) and path.name not in named:
                yield f"{path.relative_to(root).as_posix()}:1 is in no order"


def _against_the_order(module: str, target: str) -> Iterator[str]:
    for folder, floors in ORDER.items():
        if folder in MIXED or not (module.startswith(f"{folder}.") and target.startswith(f"{folder}.")):
            continue
        named = {room: number for number, floor in enumerate(floors) for room in floor}
        here, there = (_room(name, folder, named) for name in (module, target))
        if here is None or there is None or here == there:
            continue
        if named[there] > named[here]:
            yield f"imports {target}, which stands above it"
        elif named[there] == named[here]:
            yield f"imports {target}, which stands beside it"


def _room(name: str, folder: str, named: Mapping[str, int]) -> str | None:
    room = name.removeprefix(f"{folder}.").split(".")[0]
    return room if room in named else BASE if BASE in named else None


def _only_repeats(tree: ast.Module) -> bool:
    """Whether a module consists of a docstring, imports and `__all__`."""
    lines = [ast.unparse(node) for node in tree.body]
    brought = [line for line in lines if line.startswith(("import ", "from ")) and "__future__" not in line]
    rest = [line for line in lines if not line.startswith(("import ", "from "))]
    return bool(brought) and all(line.startswith(("'", '"', "__all__")) for line in rest)


def _of_pages(module: str, target: str, modules: Mapping[str, Path]) -> Iterator[str]:
    """Pages take types, constants and figures from analysis; of functions those in PAGES_CALL alone."""
    owner = module_of(target, modules)
    if not module.startswith("pages.") or owner.split(".")[0] != "analysis":
        return
    if owner == target:
        yield f"imports the module {target}; name what is needed of it"
        return
    home, function = _function(owner, target.removeprefix(f"{owner}."), modules)
    if function is None or home.startswith("analysis.figures."):
        return
    if "LoadedModel" in ast.unparse(function.args):
        yield f"imports {target}, which takes a loaded model; ask the workbench"
    elif f"{home}.{function.name}" not in PAGES_CALL:
        yield f"imports the function {target}; ask the workbench, or name it in PAGES_CALL"


def _function(module: str, name: str, modules: Mapping[str, Path]) -> tuple[str, ast.FunctionDef | None]:
    """The module that defines a function, and the function; None for anything else."""
    tree = ast.parse(modules[module].read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and node.module in modules:
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _function(node.module, alias.name, modules)
    return module, None


def plant(root: Path, **planted: str) -> list[str]:
    """The breaches of a tree with these sources; a__b__c stands for a/b/c.py."""
    for place, source in planted.items():
        folder, _, name = place.replace("____init__", "__INIT").rpartition("__")
        path = root / folder.replace("__", "/") / f"{name.replace('INIT', '__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return breaches(root)


def test_the_rooms_stand(repo_root: Path) -> None:
    assert breaches(repo_root) == []


def test_every_room_of_an_order_is_there(repo_root: Path) -> None:
    for folder, floors in ORDER.items():
        for room in (room for floor in floors for room in floor if room != BASE):
            place = repo_root / folder.replace(".", "/") / room
            assert place.is_dir() or place.with_suffix(".py").is_file(), place


def test_contributing_draws_the_rooms_that_are_there(repo_root: Path) -> None:
    text = (repo_root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    drawn, here = set[str](), list[str]()
    for line in re.findall(r"^    ( *(?:\w+/(?: · )?)+)", text.partition("## The rooms")[2], re.M):
        depth = (len(line) - len(line.lstrip())) // 2
        here = [*here[:depth], line.strip(" ·/").split("/")[0]]
        drawn |= {"/".join([*here[:depth], room]) for room in re.findall(r"\w+", line)}
    tops = {name.split("/")[0] for name in drawn}
    folders = {path.parent for top in tops for path in repo_root.glob(f"{top}/**/*.py")}
    parts = [folder.relative_to(repo_root).parts for folder in folders]
    assert drawn == {"/".join(names[: end + 1]) for names in parts for end in range(len(names))}


def test_contributing_draws_the_order_that_is_enforced(repo_root: Path) -> None:
    text = (repo_root / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for folder in ("analysis", "workbench"):
        part = re.search(rf"^    {folder}/.*\n((?:      .*\n)+)", text, re.M)
        assert part is not None
        rows = re.findall(r"^      ((?:\w+/(?: · )?)+)", part[1], re.M)
        dirs = [{room for room in floor if not room.startswith("_")} - {BASE} for floor in ORDER[folder]]
        assert [set(re.findall(r"\w+", row)) for row in rows] == [floor for floor in dirs if floor]


@pytest.mark.parametrize(
    ("place", "source", "what"),
    [
        ("analysis__opening__a", "from analysis.running.prompts import x", "stands above it"),
        ("analysis__pulse", "from analysis.anatomy import anatomy", "stands above it"),
        ("analysis__anatomy__a", "from analysis.checkpoints.hub import x", "stands beside it"),
        ("analysis__skills__a", "def f():\n    import analysis.neurons.decoding", "stands beside it"),
        ("analysis__harness__a", "from ..recipes import files", "stands beside it"),
        ("analysis__unlearning__guards__a", "from analysis.unlearning.edits import tars", "stands beside it"),
        ("analysis__unlearning__scenes", "from analysis.unlearning import results", "stands above it"),
        ("workbench__runs", "from workbench.jobs.jobs import x", "stands above it"),
        ("workbench__skills__a", "from workbench.neurons import decoding", "stands beside it"),
        ("workbench__cli__shared__a", "from workbench.cli.commands.jobs import x", "stands above it"),
        ("pages__shared__a", "from pages.explore.neurons import page", "stands above it"),
        ("pages__explore__a__b", "from pages.record.runs.files import x", "stands beside it"),
        ("analysis__cellar__a", "", "is in no order"),
        ("workbench__attic__deep__a", "", "is in no order"),
        ("workbench__a", "from store import x\n\n__all__ = ['x']", "only repeats"),
        ("pages__shared__a", "'''Say.'''\nfrom analysis.errors import Bad", "only repeats"),
        ("analysis__anatomy____init__", "from analysis.errors import Bad", "only repeats"),
        ("analysis__neurons__a", "import plotly.graph_objects as go\nx = go", "imports plotly"),
        ("workbench__jobs__a", "from workbench.unlearning import tars\nfrom workbench.runs import x", ""),
        (
            "analysis__figures__a",
            "import plotly.graph_objects as go\nfrom analysis.neurons import effects",
            "",
        ),
        ("store____init__", "from store.runs import Run", ""),
        ("workbench__runs", "import ray\nx = ray", "imports ray"),
    ],
)
def test_a_breach_is_seen(tmp_path: Path, place: str, source: str, what: str) -> None:
    found = plant(tmp_path, **{place: source if what == "only repeats" else f"{source}\nHERE = 1\n"})
    assert len(found) == bool(what)
    assert all(what in line for line in found)


def test_ray_stays_in_one_module(tmp_path: Path) -> None:
    use = "import ray\nx = ray"
    assert plant(tmp_path, workbench__jobs__cluster=use) == []
    assert len(plant(tmp_path, workbench__jobs__other=use)) == 1


def test_a_room_that_is_too_full_is_seen(tmp_path: Path) -> None:
    full = {f"analysis__running__m{number}": "" for number in range(MOST_MODULES)}
    assert plant(tmp_path, **full, analysis__running____init__="") == []
    found = plant(tmp_path, analysis__running__more="")
    assert found == ["analysis/running:1 holds 17 modules, more than 16"]


MODEL = """
class LoadedModel: ...
class Answer: ...
BEST = 20
def answers(loaded: LoadedModel, *, best: int) -> Answer: ...
def later(*, loaded: "LoadedModel | None" = None) -> Answer: ...
def added(a: int, b: int) -> int: ...
"""


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("from analysis.running.answering import answers", "takes a loaded model"),
        ("from ....analysis.running.answering import later", "takes a loaded model"),
        ("def f():\n    from analysis.running.answering import answers as a", "takes a loaded model"),
        ("from analysis.running.answering import added", "name it in PAGES_CALL"),
        ("from analysis.running import answering", "imports the module"),
        ("import analysis.running.answering", "imports the module"),
        ("from analysis.running.answering import BEST, Answer, LoadedModel", ""),
        ("from analysis.figures.answers import added", ""),
    ],
)
def test_what_pages_take_from_analysis_is_seen(tmp_path: Path, source: str, what: str) -> None:
    rooms = {"analysis__running__answering": MODEL, "analysis__figures__answers": MODEL}
    found = plant(tmp_path, **rooms, pages__explore__neurons__page=f"{source}\nHERE = 1\n")
    assert len(found) == bool(what)
    assert all(what in line for line in found)


def test_a_page_is_a_folder_with_a_page(repo_root: Path) -> None:
    for section in SECTIONS:
        folders = {path for path in (repo_root / "pages" / section).glob("*/") if any(path.glob("*.py"))}
        assert folders
        assert all((folder / "page.py").is_file() for folder in folders)
        assert [path.name for path in (repo_root / "pages" / section).glob("*.py")] == ["__init__.py"]


def test_tests_lie_as_what_they_test(repo_root: Path) -> None:
    for path in repo_root.glob("tests/**/*.py"):
        top, *rooms = path.parent.relative_to(repo_root / "tests").parts or ("",)
        if top in {"analysis", "workbench", "pages", "store", "demo", "headlamp", "training"}:
            assert (repo_root / top / "/".join(rooms)).is_dir(), path


def borrowed(source: str) -> list[str]:
    """What a test takes from another test file, or from below another module's surface."""
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in found if (node.module or "").split(".")[0] in TOPS]
    from_tests = [f"{node.module}" for node in ours if (node.module or "").split(".")[-1].startswith("test_")]
    private = [alias.name for node in ours for alias in node.names if re.match("_[a-z]", alias.name)]
    return [*from_tests, *private]


def test_tests_share_through_modules_of_their_own(repo_root: Path) -> None:
    found = {path: borrowed(path.read_text(encoding="utf-8")) for path in repo_root.glob("tests/**/*.py")}
    assert {str(path.relative_to(repo_root)): names for path, names in found.items() if names} == {}


def test_what_a_test_borrows_is_seen() -> None:
    source = "from tests.store.test_runs import plant\nfrom store.runs import _insert\nfrom re import _parser"
    assert borrowed(source) == ["tests.store.test_runs", "_insert"]
