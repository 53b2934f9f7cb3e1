"""A tiny random model with hostile tokens, and the app opened at any address."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.pages.unlearning_made import answer, answered_once, skill_files, skills  # noqa: F401 - fixtures
from tests.patience import SECONDS

HOSTILE = ("<script>alert(1)</script>", "$x$", "![a](http://x)", ":red[hot]", "**bold**")
WORDS = (
    " dog",
    " cat",
    " day",
    " Dog",
    "dog",
    " the",
    " a",
    " ran",
    " and",
    ".",
    "\n",
    "1",
    "é",
    "a",
    "b",
    "c",
)
SCRIPTS = {
    "/": "pages/explore/overview/page.py",
    "/neurons": "pages/explore/neurons/page.py",
    "/experts": "pages/explore/experts/page.py",
    "/compare": "pages/explore/compare/page.py",
    "/clamp": "pages/intervene/clamp/page.py",
    "/skills": "pages/intervene/skills/page.py",
    "/unlearn": "pages/intervene/unlearn/page.py",
    "/findings": "pages/record/findings/page.py",
    "/runs": "pages/record/runs/page.py",
}


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in a folder: 2 layers, width 16, 24 neurons each, a vocabulary nobody should trust."""
    folder = tmp_path_factory.mktemp("tiny-model")
    tokenizer = hostile_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
        initializer_range=0.5,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def hostile_tokenizer() -> PreTrainedTokenizerFast:
    """Whole pieces split at spaces, a leading space kept: what is not in the vocabulary is <unk>."""
    vocabulary = {piece: i for i, piece in enumerate(("<s>", "</s>", "<unk>", *WORDS, *HOSTILE))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture
def bare_app(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """`bare_app("/neurons", word="dog")`: the page after its first run, with no model to open by itself.

    Jobs of the tiny model are quick, also on a busy machine; `work_with` makes them slow.
    """
    monkeypatch.setattr("pages.shared.jobs.waiting.QUICK_SECONDS", SECONDS)
    monkeypatch.setattr("pages.shared.resources.BUNDLED", {})
    monkeypatch.chdir(repo_root)

    def run_app(page: str = "/", /, **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(str(repo_root / "app.py"), default_timeout=SECONDS)
        app._page_hash = _page_hash(page)
        app.query_params.update(query)
        return app.run()

    return run_app


@pytest.fixture
def run_app(
    bare_app: Callable[..., AppTest], tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., AppTest]:
    """`run_app("/neurons", word="dog")`: the same with the tiny model open by itself."""
    monkeypatch.setenv("HEADLAMP_MODEL", str(tiny_model_folder))
    return bare_app


def _page_hash(page: str) -> str:
    """What Streamlit calls a page: a hash of its address."""
    from streamlit.util import calc_hash

    return calc_hash(page.removeprefix("/"))
