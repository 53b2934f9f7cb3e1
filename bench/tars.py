"""TARS benchmark: concepts removed with one half of the wordings, measured on the other: `python -m
bench.tars [MODEL] [COUNT]`.

The concepts are answers of one token among the bundled facts. One half of a fact's wordings defines the aim,
the other is held out. Goal: P(concept) < 0.01 after at most 3 edits, median next-token KL on other text ≤
0.01 nats.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict

from analysis.errors import HeadlampError
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.opening.vocabulary import find_word_tokens
from analysis.running.prompts import encode_prompt
from analysis.skills.files import read_skill
from analysis.skills.items import SkillItem
from analysis.skills.likelihoods import score_next_tokens
from demo import BUNDLED
from workbench.unlearning.tars import ConceptRemoval, remove_concept

LOW, FEW = 0.01, 0.3


def main() -> None:
    """Print a row per concept, and how many reach the goal."""
    model = sys.argv[1] if len(sys.argv) > 1 else "demo/base"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    facts = _facts(read_skill(BUNDLED["demo/base"].parent / "skills" / "facts.jsonl").items)
    print(f"{'concept':14} edits  P aimed at        P held out        KL median  places")
    good, kls = 0, []
    with lease_model(ModelRef(model)) as loaded:
        shown = 0
        for concept, prompts in facts.items():
            if shown == count:
                break
            half = len(prompts) // 2
            aims, held = prompts[:half], prompts[half:]
            try:
                if _measure_probability(loaded, concept, held, None) < FEW:
                    continue  # it does not predict the word after these prompts: nothing to remove
                found = remove_concept(loaded, concept, aims)
            except HeadlampError as error:
                print(f"{concept:14} {error}")
                continue
            before, after = (_measure_probability(loaded, concept, held, change) for change in (None, found))
            shown += 1
            good += max(after, found.after) < LOW and (found.kl_median or 0) <= LOW
            kls.append(found.kl_median or 0.0)
            print(
                f"{concept:14} {len(found.edits.edits):5}  {found.before:.3f} → {found.after:.1e}  "
                f"{before:.3f} → {after:.1e}  {found.kl_median:.1e}    {found.positions}"
            )
    print(f"{model}: {good} of {shown} as wanted, median of the KL medians {statistics.median(kls):.1e} nats")


def _facts(items: tuple[SkillItem, ...]) -> dict[str, list[str]]:
    """Prompts by answer: facts with at least two wordings, in the file's order."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        found[item.answer, item.group].append(item.prompt)
    return {answer: prompts for (answer, _), prompts in found.items() if len(prompts) > 1}


def _measure_probability(
    loaded: LoadedModel, concept: str, prompts: list[str], removed: ConceptRemoval | None
) -> float:
    """Mean P(concept) as the next token."""
    tokens = find_word_tokens(loaded.vocabulary, loaded.tokenizer, concept)
    ids = [encode_prompt(loaded, prompt) for prompt in prompts]
    changes = () if removed is None else (removed.edits,)
    said = score_next_tokens(loaded, ids, changes)[0]
    return float(said.double().exp()[:, list(tokens)].sum(-1).mean())


if __name__ == "__main__":
    main()
