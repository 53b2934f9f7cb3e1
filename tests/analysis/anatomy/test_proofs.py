"""Anatomies kept and recalled: the same as proven, and proven again where anything differs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.anatomy import proofs
from analysis.anatomy.proofs import proof_key
from analysis.anatomy.structure import find_anatomy
from analysis.opening import models
from analysis.opening.models import ModelRef, load_model
from tests.analysis.conftest import tiny_model, tiny_tokenizer


class Kept:
    """Proofs kept as JSON, as a database does."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        found = self.documents.get(key)
        return None if found is None else json.loads(found)

    def keep(self, key: str, document: Mapping[str, Any]) -> None:
        self.documents[key] = json.dumps(document)


@pytest.fixture
def proven(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose anatomy was proven, in order."""
    names: list[str] = []
    find = find_anatomy

    def counting(model: Any, *rest: Any) -> Any:
        names.append(type(model).__name__)
        return find(model, *rest)

    monkeypatch.setattr(models, "find_anatomy", counting)
    return names


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral"])
def test_a_proven_anatomy_is_not_proven_again(tmp_path: Path, kind: str, proven: list[str]) -> None:
    tiny_model(kind).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    kept, ref = Kept(), ModelRef(str(tmp_path))
    first = load_model(ref, proofs=kept)
    again = load_model(ref, proofs=kept)
    assert len(proven) == 1
    assert again.anatomy == first.anatomy
    from_disk = load_model(ModelRef(str(tmp_path), streamed=True), proofs=kept)
    assert (len(proven), from_disk.anatomy) == (1, first.anatomy)
    load_model(ModelRef(str(tmp_path), dtype="bfloat16"), proofs=kept)
    assert len(proven) == 2
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"note": 1}))
    load_model(ref, proofs=kept)
    assert len(proven) == 3


@pytest.mark.parametrize("damage", ["{}", "not JSON", "[]", None])
def test_what_is_kept_wrong_is_proven_again(tmp_path: Path, damage: str | None, proven: list[str]) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    kept = Kept()
    first = load_model(ModelRef(str(tmp_path)), proofs=kept)
    ((key, good),) = kept.documents.items()
    kept.documents[key] = good.replace("lm_head.weight", "head.weight") if damage is None else damage
    assert load_model(ModelRef(str(tmp_path)), proofs=kept).anatomy == first.anatomy
    assert (len(proven), kept.documents[key]) == (2, good)


def test_the_key_names_all_that_a_proof_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one = proof_key("f", "Llama", "float32", "cpu")
    others = [("g", "Llama", "float32", "cpu"), ("f", "GPT2", "float32", "cpu")]
    others += [("f", "Llama", "bfloat16", "cpu"), ("f", "Llama", "float32", "cuda")]
    keys = {one, *(proof_key(*other) for other in others)}
    for versions in (("0", proofs.LIBRARIES[1]), (proofs.LIBRARIES[0], "0")):
        with monkeypatch.context() as patched:
            patched.setattr(proofs, "LIBRARIES", versions)
            keys.add(proof_key("f", "Llama", "float32", "cpu"))
    assert len(keys) == 7
