"""Hidden states before the LM head, and what the head makes of them, also with some of its rows replaced.

A replaced head row changes no hidden state, so states are read once for all changes of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analysis.anatomy.contract import head_logits
from analysis.errors import SkillError
from analysis.intervening.interventions import Intervention
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel
from analysis.running.batches import make_batches, run_batch
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars

POSITIONS = 256
"""Positions whose distributions over the vocabulary are held at once."""


def final_norm(loaded: LoadedModel) -> nn.Module:
    """The norm before the head. Raises SkillError if the model has no named one."""
    name = loaded.anatomy.final_norm.parameter
    if name is None:
        raise SkillError(
            f"{loaded.ref.name} has no final norm of its own, so TARS cannot aim through its head"
        )
    module: nn.Module = loaded.model.get_submodule(name.rpartition(".")[0])
    return module


def read_states(
    loaded: LoadedModel,
    sequences: Sequence[Sequence[int]],
    counts: Sequence[int],
    edits: Sequence[Reversal] = (),
) -> list[Tensor]:
    """The final norm's input at the last `counts` positions of each sequence: (count, d) float32 each.

    edits: replaced vectors; those of the head change nothing here.
    """
    found: dict[int, Tensor] = {}
    changes: list[Intervention] = [Tars(kept)] if (kept := take_neurons(edits)) else []
    for batch in make_batches(loaded, sequences):
        reading = _ReadStates([])
        run_batch(loaded, batch, [*changes, reading])
        for row, index in enumerate(batch.indices):
            found[index] = reading.seen[0][row, -counts[index] :].cpu()
    return [found[index] for index in range(len(sequences))]


def read_residuals(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], edits: Sequence[Reversal] = ()
) -> Tensor:
    """(n, d) float32: the final norm's input at each prompt's last token."""
    return torch.cat(read_states(loaded, prompts, [1] * len(prompts), edits))


@dataclass(frozen=True, eq=False)
class _ReadStates:
    """Records the final norm's input at every position; changes nothing."""

    seen: list[Tensor]

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """See Watch."""
        norm = final_norm(step.loaded)
        yield norm.register_forward_pre_hook(lambda m, args: self.seen.append(args[0].float()))


def take_neurons(edits: Sequence[Reversal]) -> tuple[Reversal, ...]:
    """The edits of neurons' vectors, without those of head rows."""
    return tuple(edit for edit in edits if edit.site != "head")


def take_rows(edits: Sequence[Reversal]) -> tuple[Reversal, ...]:
    """The edits of head rows."""
    return tuple(edit for edit in edits if edit.site == "head")


def read_log_probabilities(loaded: LoadedModel, states: Tensor, edits: Sequence[Reversal] = ()) -> Tensor:
    """(n, V) float32 log p of the next token from states (n, d), through final norm and head.

    edits: of which the head's replaced rows count; those of neurons are in the states already.
    """
    weight = next(final_norm(loaded).parameters())
    head, parameters = loaded.anatomy.head, loaded.parameters
    rows = take_rows(edits)
    if rows:
        changed = parameters[head.parameter].detach().clone()
        for edit in rows:
            assert isinstance(edit.address, HeadRow)
            changed[edit.address.token] = edit.value.to(changed.device, changed.dtype)
        parameters = {**parameters, head.parameter: changed}
    with torch.inference_mode():
        normed = final_norm(loaded)(states.to(weight.device, weight.dtype))
        logits = loaded.vocabulary.restrict(head_logits(head, parameters, normed))
        return torch.log_softmax(logits.float(), -1)


def read_concept_probability(
    loaded: LoadedModel, states: Tensor, tokens: Sequence[int], edits: Sequence[Reversal] = ()
) -> Tensor:
    """(n,) float64 P(any of the tokens) of residual states (n, d), in [0, 1]."""
    return read_log_probabilities(loaded, states, edits)[..., list(tokens)].double().exp().sum(-1)


@dataclass(frozen=True, eq=False)
class StateChange:
    """Next-token distributions of the same positions, base and changed. kl (n,) nats; top, changed_top (n,):
    the likeliest token of either.
    """

    kl: Tensor
    top: Tensor
    changed_top: Tensor


def compare_states(
    loaded: LoadedModel,
    base: Tensor,
    changed: Tensor,
    edits: Sequence[Reversal],
    earlier: Sequence[Reversal] = (),
) -> StateChange:
    """KL(base ‖ changed) at each position. base, changed (n, d): states; earlier: edits of the base."""
    kls, tops, others = list[Tensor](), list[Tensor](), list[Tensor]()
    for start in range(0, len(base), POSITIONS):
        p = read_log_probabilities(loaded, base[start : start + POSITIONS], earlier)
        q = read_log_probabilities(loaded, changed[start : start + POSITIONS], edits)
        terms = torch.where(p.isneginf(), torch.zeros_like(p), p.exp() * (p - q))
        kls.append(terms.double().sum(-1).clamp(min=0).cpu())
        tops.append(p.argmax(-1).cpu())
        others.append(q.argmax(-1).cpu())
    return StateChange(torch.cat(kls), torch.cat(tops), torch.cat(others))
