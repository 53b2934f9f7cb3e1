"""BASE+ADAPTER as a name, beside names that hold a + of their own."""

from pathlib import Path

import pytest

from analysis.checkpoints.sources import is_hub_file, is_hub_id, resolve, split_adapter
from analysis.errors import ModelNotFound, NotAModel, NotFetched
from analysis.opening.model_ref import ModelRef, resolve_ref
from analysis.opening.models import load_model
from tests.analysis.checkpoints.adapters.adapters_made import made_adapter, made_base


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("demo/base+some/adapter", ("demo/base", "some/adapter")),
        ("org/model+some/adapter", ("org/model", "some/adapter")),
        ("org/model:w.gguf+some/adapter", ("org/model:w.gguf", "some/adapter")),
        ("org/model", ("org/model", None)),
        ("/nowhere/at+all", ("/nowhere/at+all", None)),
        ("demo/base+", ("demo/base+", None)),
        ("+demo/base", ("+demo/base", None)),
    ],
)
def test_a_name_is_split_where_a_model_ends(name: str, pair: tuple[str, str | None]) -> None:
    assert split_adapter(name) == pair


def test_a_folder_whose_name_holds_a_plus_opens_with_and_without_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = made_base(tmp_path / "tiny+v2")
    made_base(tmp_path / "tiny")
    adapter = made_adapter(base, tmp_path / "a+b", target_modules=["q_proj"])
    assert split_adapter(str(base)) == (str(base), None)
    assert split_adapter(f"{base}+{adapter}") == (str(base), str(adapter))
    assert load_model(ModelRef(str(base))).adapter is None
    loaded = load_model(ModelRef(f"{base}+{adapter}"))
    assert loaded.adapter is not None
    assert loaded.path == base
    monkeypatch.chdir(tmp_path)
    assert resolve_ref(ModelRef("tiny+v2+a+b")).name == f"{base}+{adapter}"


def test_an_adapter_that_is_not_here_is_named(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    with pytest.raises(NotFetched, match="some/adapter is no folder, and not among the adapters"):
        load_model(ModelRef(f"{base}+some/adapter"))
    with pytest.raises(
        ModelNotFound, match=r"/nowhere: there is no adapter of this name; give BASE\+ADAPTER"
    ):
        load_model(ModelRef(f"{base}+/nowhere"))
    with pytest.raises(NotAModel, match=r"base has no adapter_config\.json, so it is no adapter"):
        load_model(ModelRef(f"{base}+{base}"))


def test_the_base_decides_whether_a_name_is_looked_up_at_the_hub(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    assert is_hub_id("org/model+some/adapter")
    assert not is_hub_id(f"{base}+some/adapter")
    assert is_hub_file("org/model:w.gguf+some/adapter")
    assert resolve(f"{base}+some/adapter") == base


def test_an_adapter_alone_says_how_to_open_it(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    with pytest.raises(NotAModel, match=rf"holds an adapter \(LoRA\) for {base}.*: {base}\+{adapter}"):
        load_model(ModelRef(str(adapter)))
