"""Adapter that lets lm-evaluation-harness query a changed model; needs the package lm_eval.

The harness's own wrapper calls a model with ids alone: clamps, scopes and guards would know
neither the padding nor the end of the prompt. So the harness formats and cuts, and our own code feeds the
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from analysis.errors import HarnessError
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.answers import refusal_ids
from analysis.running.batches import BATCH
from analysis.running.prompts import encode_open_end, refuse_unknown_ids
from analysis.running.templates import render_turns
from analysis.skills.answering import answer_prompts
from analysis.skills.likelihoods import Likelihood, score_continuations
from analysis.unlearning.guards.linear_guards import Guard

NEW_TOKENS = 256
"""Longest answer if a task names none, as in the harness."""

Pair = tuple[float, bool]
"""log p of a continuation (nats), and whether each of its tokens was the likeliest."""


@dataclass(frozen=True)
class _Continuation:
    """One text to continue: its tokens, its stop sequences, and the longest answer."""

    ids: list[int]
    until: tuple[str, ...]
    longest: int


class ChangedModel(TemplateLM):  # type: ignore[misc]  # untyped where it is installed, Any where it is not
    """A loaded model under changes. refused: (task, number) of every document a guard refused.

    A refused continuation has log p −∞; a refused answer is the refusal. `harness.py` makes both wrong.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        changes: Sequence[Change] = (),
        batch_size: int = BATCH,
        pulse: Pulse = lambda done, total: None,
    ) -> None:
        super().__init__()
        self.loaded, self.changes = loaded, tuple(changes)
        self.batch_size, self.pulse = batch_size, pulse
        self.tokenizer = loaded.tokenizer
        self.max_length: int = loaded.anatomy.context
        self.refused: set[tuple[str, int]] = set()
        self._abstained: list[bool] = []

    @property
    def eot_token_id(self) -> int:
        """The id of the end-of-text token. Raises HarnessError if the tokenizer has none."""
        if self.tokenizer.eos_token_id is None:
            raise HarnessError(
                f"the tokenizer of {self.loaded.ref.name} has no end-of-text token, where the harness stops"
            )
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context: beginning of text, else end of text."""
        first = self.tokenizer.bos_token_id
        return self.eot_token_id if first is None else int(first)

    @property
    def tokenizer_name(self) -> str:
        """The name under which the harness caches the chat template."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Render a conversation. Raises HarnessError for a tokenizer without a template, TextError for one
        that cannot be used.
        """
        if not self.tokenizer.chat_template:
            raise HarnessError(f"{self.loaded.ref.name} has no chat template; leave --chat-template out")
        if add_generation_prompt:
            return render_turns(self.loaded, tuple((one["role"], one["content"]) for one in chat_history))
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                continue_final_message=True,
            )
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Encode as the harness does: special tokens before a text, never twice; none that are appended."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        if add_special_tokens is False:
            ids = [int(i) for i in self.tokenizer.encode(string, add_special_tokens=False)]
        else:
            ids = encode_open_end(self.tokenizer, string)
        refuse_unknown_ids(self.loaded, ids)
        return ids

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Pair]:
        """log p of each request's continuation; see `Pair`."""
        found: list[Pair] = super().loglikelihood(requests, disable_tqdm=True)
        self._note(requests, self._abstained)
        return found

    def _loglikelihood_tokens(self, requests: list[tuple[Any, list[int], list[int]]], **_: Any) -> list[Pair]:
        found = self._scored([(context, continuation) for _, context, continuation in requests])
        self._abstained = [one.abstained for one in found]
        return [(_log_p(one), one.greedy and not one.abstained) for one in found]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """log p of whole texts, window by window; a guard looks at the last token of each window."""
        windows: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            own = [make_disjoint_window(window) for window in rolling]
            windows += own
            owners += [number] * len(own)
        found = self._scored(windows, whole=True)
        sums, refused = [0.0] * len(requests), [False] * len(requests)
        for number, one in zip(owners, found, strict=True):
            sums[number] += _log_p(one)
            refused[number] |= one.abstained
        self._note(requests, refused)
        return sums

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, each cut at its task's stop sequences; the refusal text if refused."""
        asked = [self._asked(*request.args) for request in requests]
        texts = [""] * len(requests)
        refused = [False] * len(requests)
        for longest in sorted({one.longest for one in asked}):
            mine = [i for i, one in enumerate(asked) if one.longest == longest]
            found = answer_prompts(
                self.loaded,
                [asked[i].ids for i in mine],
                self.changes,
                stops=[asked[i].until for i in mine],
                max_new_tokens=longest,
                batch_size=self.batch_size,
                pulse=self.pulse,
            )
            for i, answer in zip(mine, found, strict=True):
                ids = self._refusal() if answer.abstained else answer.token_ids
                text = self.tokenizer.decode(ids, skip_special_tokens=True)
                texts[i] = postprocess_generated_text(text, list(asked[i].until), None)
                refused[i] = answer.abstained
        self._note(requests, refused)
        return texts

    def _asked(self, context: str, how: dict[str, Any]) -> _Continuation:
        wanted = normalize_gen_kwargs(how, NEW_TOKENS)
        if wanted.get("do_sample") or wanted.get("num_beams", 1) != 1:
            raise HarnessError(f"this task requests sampled answers ({how}); set do_sample: false in a copy")
        longest = int(wanted["max_gen_toks"])
        room = self.max_length - longest
        if room < 1:
            raise HarnessError(
                f"this task asks for {longest} new tokens, the context of {self.loaded.ref.name} is "
                f"{self.max_length}; set a smaller max_gen_toks in a copy of it"
            )
        eos = self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False)
        until = handle_stop_sequences(wanted.get("until"), eos=eos)
        ids = self.tok_encode(context)[-room:] or [self.prefix_token_id]
        return _Continuation(ids, tuple(until), longest)

    def _scored(self, pairs: list[tuple[list[int], list[int]]], whole: bool = False) -> list[Likelihood]:
        """Contexts that are too long are cut on the left, as in the harness. whole: a guard checks all."""
        prompts, continuations = [], []
        for context, continuation in pairs:
            if not context or not 0 < len(continuation) <= self.max_length:
                raise HarnessError(
                    f"the tokenizer of {self.loaded.ref.name} reads a context of this task as {len(context)} "
                    f"tokens and its continuation as {len(continuation)}; either needs at least one, the "
                    f"latter at most {self.max_length}: choose another task or model"
                )
            prompts.append(context[-(self.max_length + 1 - len(continuation)) :])
            continuations.append(continuation)
        both = zip(prompts, continuations, strict=True)
        asked = [min(len(p) + len(c), self.max_length) if whole else len(p) for p, c in both]
        return score_continuations(
            self.loaded,
            prompts,
            continuations,
            self.changes,
            asked=asked,
            batch_size=self.batch_size,
            pulse=self.pulse,
        )

    def _refusal(self) -> list[int]:
        return refusal_ids(
            self.loaded, next(change.refusal for change in self.changes if isinstance(change, Guard))
        )

    def _note(self, requests: Sequence[Any], refused: Sequence[bool]) -> None:
        self.refused |= {(r.task_name, r.doc_id) for r, no in zip(requests, refused, strict=True) if no}


def _log_p(one: Likelihood) -> float:
    return float("-inf") if one.abstained else one.log_probability
