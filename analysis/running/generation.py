"""Generation of base and changed text as two rows of one batch, token by token (METHODS §2).

Both rows always run together, also with an empty recipe, so that both see the same kernels; sampling noise
is one vector per step, keyed by (seed, step), shared by the rows. Row 0 is never touched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from analysis.errors import HeadlampError
from analysis.intervening.hooks import Reach
from analysis.intervening.interventions import Change, intervene
from analysis.opening.models import LoadedModel
from analysis.running.answers import refusal_ids
from analysis.running.batches import example_number
from analysis.running.configured import build_scorer, samples
from analysis.running.continuing import check_continues, find_room
from analysis.running.words import list_excluded, read_word_probability

METHOD_VERSION = "1"
WORD_VERSION = "3"
"""Of generations that report a word: by single tokens in 1, by its spellings since 2, without what makes them
longer words since 3."""
LEAST = 1e-3
"""Behind the first generated position, spellings below this probability keep what makes them longer words."""
BEST = 20
"""How many of either row's best tokens the answer position reports."""

BASE, CHANGED = 0, 1


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen. temperature 0 is greedy; otherwise seed determines the noise.

    as_configured: as the model's generation_config has it (`configured`), in place of the temperature.
    """

    max_new_tokens: int = 40
    temperature: float = 0.0
    seed: int = 0
    as_configured: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.max_new_tokens <= 4096:
            raise HeadlampError(f"max new tokens {self.max_new_tokens}: choose 1 to 4096")
        if not 0 <= self.temperature <= 10:
            raise HeadlampError(f"temperature {self.temperature}: choose 0 (greedy) to 10")
        if not 0 <= self.seed < 2**63:
            raise HeadlampError(f"seed {self.seed}: choose a whole number from 0")
        if self.as_configured and self.temperature:
            raise HeadlampError(
                "as configured takes the temperature from generation_config.json; leave the other one at 0"
            )


@dataclass(frozen=True)
class GenerationStep:
    """One generated position. tokens: the new id of (base, changed), None once that row has ended.

    log_probabilities (2, V): of both rows at this position, float32 over the tokenizer's vocabulary, before
    any setting of generation_config.
    reach: of the forward pass. word: P(word) of both rows here; None if no word is asked for, or its pieces
    would not fit into the context.
    """

    tokens: tuple[int | None, int | None]
    log_probabilities: Tensor
    reach: Reach
    word: tuple[float, float] | None = None


def generate_steps(
    loaded: LoadedModel,
    ids: Sequence[int],
    changes: Sequence[Change],
    sampling: Sampling,
    spellings: Sequence[Sequence[int]] = (),
) -> Iterator[GenerationStep]:
    """Continue ids (token ids of one prompt) twice: row 0 unchanged, row 1 changed.

    spellings: of a word whose probability is reported at every position, as token ids. What goes on behind
    it is subtracted, which takes a step for each spelling: at the first position always, later only for
    spellings of at least LEAST in either row (1.3 to 1.6 times as long on SmolLM2; at every position 3).
    Once a guard refuses row 1, it continues with the refusal text and ends. Stops
    when both rows have ended, at `max_new_tokens`, or at the end of the context. The lock is held for
    one forward step at a time; the KV cache belongs to this iterator. Raises HeadlampError where a change
    drives the model to NaN or infinity, or if the model cannot be fed this way.
    """
    check_continues(loaded)
    device, ends = loaded.device, loaded.ends_of_text
    run = _Run(loaded, ids, changes, DynamicCache(config=loaded.model.config))
    fed = torch.tensor([list(ids)] * 2, device=device)
    choose = _Chooser(loaded, sampling, fed)
    done = [False, False]
    refusal: list[int] | None = None
    excluded = list_excluded(loaded, spellings)
    limit = min(sampling.max_new_tokens, find_room(loaded, len(ids)))
    for number in range(limit):
        start = 0 if number == 0 else len(ids) + number - 1
        logits, reach = run.feed(fed, start, run.cache)
        logits = logits[:, -1]
        log_p = logits.cpu().double().log_softmax(-1).float()  # float32 would err where P is near 1
        least = 0.0 if number == 0 else LEAST
        word = run.read_word(log_p, spellings, excluded, start + fed.shape[1], least)
        chosen = choose(logits, log_p, number)
        if CHANGED in reach.abstained and refusal is None and not done[CHANGED]:
            refusal = refusal_ids(loaded, reach.refusal or "")
        ends_here = refusal is not None and len(refusal) <= 1
        if refusal:
            chosen[CHANGED] = refusal.pop(0)
        tokens = [None if ended else token for ended, token in zip(done, chosen, strict=True)]
        yield GenerationStep((tokens[0], tokens[1]), log_p, reach, word)
        done = [ended or token in ends for ended, token in zip(done, chosen, strict=True)]
        done[CHANGED] = done[CHANGED] or ends_here
        if all(done):
            return
        fed = torch.tensor(chosen, device=device)[:, None]
        choose.follow(fed)


@dataclass(frozen=True)
class _Run:
    """One text being continued: prompt ids, changes of row 1, and the cache of what was fed."""

    loaded: LoadedModel
    ids: Sequence[int]
    changes: Sequence[Change]
    cache: Any

    def feed(self, fed: Tensor, start: int, cache: Any, keep: int = 1) -> tuple[Tensor, Reach]:
        """Feed tokens (2, n) from position `start` on: (2, keep, V) logits at the last, and the reach."""
        positions = torch.arange(start, start + fed.shape[1], device=fed.device).expand(2, -1)
        with intervene(
            self.loaded,
            self.changes,
            positions=positions,
            prompt_length=len(self.ids),
            rows=[[CHANGED]] * len(self.changes),
            examples=[example_number(self.ids)] * 2,
        ) as reach:
            logits = _last_logits(self.loaded, fed, positions, cache, keep)
        return logits, reach

    def read_word(
        self,
        log_p: Tensor,
        spellings: Sequence[Sequence[int]],
        excluded: Sequence[Tensor | None],
        length: int,
        least: float,
    ) -> tuple[float, float] | None:
        """P(word) of both rows after `length` tokens; log_p (2, V): of the next one. The cache stays."""
        end = len(self.ids) + find_room(self.loaded, len(self.ids))
        if not spellings or length + max(map(len, spellings)) > end:
            return None

        def read_ahead(pieces: Sequence[int]) -> Tensor:
            fed = torch.tensor([list(pieces)] * 2, device=self.loaded.device)
            logits, _ = self.feed(fed, length, copy.deepcopy(self.cache), keep=len(pieces))
            return logits.cpu().double().log_softmax(-1)

        base, changed = read_word_probability(log_p, spellings, read_ahead, excluded, least)
        return base, changed


def _last_logits(loaded: LoadedModel, fed: Tensor, positions: Tensor, cache: Any, keep: int) -> Tensor:
    """(2, keep, V) float32 at the last fed positions, without the head's padding rows, −∞ at holes."""
    with torch.inference_mode():
        output = loaded.model(
            input_ids=fed, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=keep
        )
        logits = output.logits[:, -keep:, : len(loaded.vocabulary)].float()
        if not torch.isfinite(logits[BASE]).all():
            raise HeadlampError(
                f"{loaded.ref.name} itself gives NaN or infinity for this prompt in {loaded.dtype}; "
                "open it in float32"
            )
        if not torch.isfinite(logits[CHANGED]).all():
            raise HeadlampError(
                "the clamp drove the model to NaN or infinity; use a smaller value, within ±16x"
            )
        return loaded.vocabulary.restrict(logits)


class _Chooser:
    """Chooses each row's next token: the argmax, or the argmax under noise shared by the rows (Gumbel)."""

    def __init__(self, loaded: LoadedModel, sampling: Sampling, fed: Tensor) -> None:
        self.sampling, self.temperature, self.ids = sampling, sampling.temperature, fed
        self.scores = None
        if sampling.as_configured:
            self.scores = build_scorer(loaded, fed.shape[1])
            self.temperature = 1.0 if samples(loaded) else 0.0

    def follow(self, chosen: Tensor) -> None:
        """Remember the tokens (2, 1) that are fed next."""
        self.ids = torch.cat([self.ids, chosen], 1)

    def __call__(self, logits: Tensor, log_p: Tensor, step: int) -> list[int]:
        """The next token of each row of logits (2, V); log_p: their log softmax on the CPU."""
        scores = log_p if self.scores is None else self.scores(self.ids, logits).cpu()
        if self.temperature == 0:
            return [int(i) for i in scores.argmax(-1)]
        generator = torch.Generator().manual_seed((self.sampling.seed * 1_000_003 + step) % 2**63)
        uniform = torch.rand(scores.shape[-1], generator=generator, dtype=torch.float64)
        gumbel = -torch.log(-torch.log(uniform.clamp(min=1e-300)))
        return [int(i) for i in (scores.double() / self.temperature + gumbel).argmax(-1)]


@dataclass(frozen=True)
class BestTokens:
    """Probabilities at the first generated position.

    token_ids (n,): the BEST of either row, likeliest (in either) first; base, changed (n,) in [0, 1].
    """

    token_ids: tuple[int, ...]
    base: tuple[float, ...]
    changed: tuple[float, ...]


def read_best_tokens(step: GenerationStep, best: int = BEST, also: Sequence[int] = ()) -> BestTokens:
    """The best tokens of either row at the first step, plus `also`, with both rows' probabilities."""
    p = step.log_probabilities.double().exp()
    possible = int((step.log_probabilities[BASE] > -torch.inf).sum())  # all but the holes of the vocabulary
    count = min(best, possible)
    candidates = sorted({int(i) for row in p for i in row.topk(count).indices} | set(also))
    candidates.sort(key=lambda token: -float(p[:, token].max()))
    base, changed = p[BASE, candidates].tolist(), p[CHANGED, candidates].tolist()
    return BestTokens(tuple(candidates), tuple(base), tuple(changed))
