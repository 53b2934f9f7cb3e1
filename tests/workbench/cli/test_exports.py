"""decode --out: what the files hold, and that they are whole or not there at all."""

import csv
import errno
import json
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from analysis.opening.models import ModelRef
from store import open_store
from tests.workbench.conftest import Cli
from workbench.files import ExportError, replace_file
from workbench.models import open_model
from workbench.neurons import exports
from workbench.neurons.decoding import decode_model, read_decoded
from workbench.neurons.exports import neurons_csv
from workbench.neurons.rows import read_rows


def jsonl(cli: Cli, model: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    """The rows of a decoding."""
    cli("decode", model, "--out", out, *options, "--json").document  # noqa: B018
    return [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]]


def test_json_lines_equal_an_independent_product_in_float64(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    found = jsonl(cli, tiny, tmp_path / "d.jsonl", "--top-k", "5")
    model = AutoModelForCausalLM.from_pretrained(tiny).double()
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    head = model.lm_head.weight[: len(tokenizer)].detach()
    layers = torch.stack([layer.mlp.down_proj.weight.detach().T for layer in model.model.layers])
    z = torch.einsum("lnd,vd->lnv", layers, head)
    p = z.softmax(-1)
    assert [(r["layer"], r["neuron"]) for r in found] == [(a, b) for a in range(2) for b in range(24)]
    for row in found:
        assert list(row) == [
            *("layer", "expert", "shared", "neuron", "top", "bottom", "weight_norm", "log_z", "entropy"),
            *("kurtosis", "up_gate", "up_down", "gate_down"),
        ]
        here, q = z[row["layer"], row["neuron"]], p[row["layer"], row["neuron"]]
        assert (row["expert"], row["shared"]) == (None, False)
        assert [t["token_id"] for t in row["top"]] == here.topk(5).indices.tolist()
        assert [t["token_id"] for t in row["bottom"]] == here.topk(5, largest=False).indices.tolist()
        for token in (*row["top"], *row["bottom"]):
            assert list(token) == ["token_id", "token", "logit", "probability"]
            assert token["logit"] == pytest.approx(float(here[token["token_id"]]), abs=1e-5)
            assert token["probability"] == pytest.approx(float(q[token["token_id"]]), rel=1e-4)
        assert row["log_z"] == pytest.approx(float(here.logsumexp(0)), abs=1e-5)
        assert row["entropy"] == pytest.approx(float(-(q * q.log()).sum()), abs=1e-4)
        assert row["weight_norm"] == pytest.approx(
            float(layers[row["layer"], row["neuron"]].norm()), rel=1e-5
        )


def test_tokens_are_exact_also_where_they_are_hostile(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    found = jsonl(cli, tiny, tmp_path / "d.jsonl", "--top-k", "100")
    assert (tmp_path / "d.jsonl").read_bytes().isascii()
    texts = {token["token_id"]: token["token"] for token in found[0]["top"]}
    assert len(texts) == len(AutoTokenizer.from_pretrained(tiny))
    assert {" dog", "<script>", '=HYPERLINK("x")', '\u2028\x1b[31m"\\', "<0xE2>", "<s>"} <= set(
        texts.values()
    )


def test_an_expert_s_rows_name_it(cli: Cli, experts: Path, tmp_path: Path) -> None:
    found = jsonl(cli, experts, tmp_path / "d.jsonl")
    assert [r["expert"] for r in found] == [e for e in range(4) for _ in range(8)]


def test_csv_has_the_same_neurons_and_runs_no_formula(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    rows = jsonl(cli, tiny, tmp_path / "d.jsonl", "--top-k", "100")
    cli("decode", tiny, "--top-k", "100", "--out", tmp_path / "d.csv")
    with (tmp_path / "d.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert list(found[0])[:6] == ["layer", "expert", "shared", "neuron", "top_token_1", "top_probability_1"]
    assert list(found[0])[-7:-4] == ["weight_norm", "log_z", "entropy"]
    assert list(found[0])[-4:] == ["kurtosis", "up_gate", "up_down", "gate_down"]
    assert len(found) == len(rows)
    for ours, row in zip(found, rows, strict=True):
        assert (int(ours["layer"]), int(ours["neuron"]), ours["expert"]) == (row["layer"], row["neuron"], "")
        assert float(ours["top_probability_1"]) == row["top"][0]["probability"]
        assert ours["bottom_token_2"].removeprefix("'") == row["bottom"][1]["token"]
    cells = [value for row in found for name, value in row.items() if "token" in name]
    assert '\'=HYPERLINK("x")' in cells
    assert not [value for value in cells if value.lstrip().startswith(("=", "+", "-", "@"))]


def test_neurons_of_a_page_have_the_columns_and_rows_of_a_whole_decoding(
    cli: Cli, tiny: Path, tmp_path: Path
) -> None:
    cli("decode", tiny, "--top-k", "3", "--out", tmp_path / "d.csv")
    whole = (tmp_path / "d.csv").read_bytes().split(b"\r\n")
    store = open_store(tmp_path / "other.db")
    with open_model(ModelRef(str(tiny)), store) as loaded:
        run = decode_model(loaded, store, top_k=3).run
        found = read_rows(loaded, read_decoded(loaded, store, run.key, "up"), [30, 2])
        some = neurons_csv(found, 3).split(b"\r\n")
    assert some == [whole[0], whole[31], whole[3], b""]


def test_parquet_has_the_same_rows_and_a_row_group_per_block(cli: Cli, experts: Path, tmp_path: Path) -> None:
    rows = jsonl(cli, experts, tmp_path / "d.jsonl")
    cli("decode", experts, "--out", tmp_path / "d.parquet")
    file = pq.ParquetFile(tmp_path / "d.parquet")
    assert file.num_row_groups == 4
    assert file.read().to_pylist() == rows


def test_a_number_that_json_cannot_hold_is_null(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "asdict", lambda score: vars(score) | {"logit": float("nan")})
    assert jsonl(cli, tiny, tmp_path / "d.jsonl")[0]["top"][0]["logit"] is None


def test_a_file_that_was_there_is_replaced_whole(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "d.jsonl"
    out.write_text("something older\n" * 10_000)
    assert len(jsonl(cli, tiny, out)) == 48
    assert [p.name for p in tmp_path.iterdir() if "jsonl" in p.name] == ["d.jsonl"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "d.csv"
    out.write_text("older")

    def half(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise error

    expected = ExportError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), replace_file(out) as stream:
        half(stream)
    assert out.read_text() == "older"
    assert list(tmp_path.iterdir()) == [out]


def test_a_full_disk_ends_with_a_sentence(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    answer = cli("decode", tiny, "--out", tmp_path / "d.jsonl")
    assert answer.code == 2
    assert "No space left on device; no partial file was left" in answer.err
    assert not list(tmp_path.glob("*d.jsonl*"))


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    with replace_file(tmp_path / "link.csv") as stream:
        stream.write(b"whole")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_bytes() == b"whole"
