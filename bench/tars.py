"""Concepts removed by TARS, met again in other words: `python -m bench.tars [MODEL] [COUNT]`.

The concepts are answers of one token among the bundled facts. One half of a fact's wordings aims, the other
is held out. Wanted: P(concept) < 0.01 after at most 3 edits, median next-token KL on other text ≤ 0.01 nats.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict

from analysis.errors import HeadlampError
from analysis.opening.leases import leased
from analysis.opening.models import LoadedModel, ModelRef
from analysis.opening.vocabulary import word_tokens
from analysis.running.prompts import prompt_ids
from analysis.skills.files import read_skill
from analysis.skills.items import SkillItem
from analysis.skills.likelihoods import next_token_log_probabilities
from demo import BUNDLED
from workbench.unlearning.tars import Removal, remove_concept

LOW, FEW = 0.01, 0.3


def main() -> None:
    """Print a row per concept, and how many are as wanted."""
    model = sys.argv[1] if len(sys.argv) > 1 else "demo/base"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    facts = _facts(read_skill(BUNDLED["demo/base"].parent / "skills" / "facts.jsonl").items)
    print(f"{'concept':14} edits  P aimed at        P held out        KL median  places")
    good, kls = 0, []
    with leased(ModelRef(model)) as loaded:
        shown = 0
        for concept, prompts in facts.items():
            if shown == count:
                break
            half = len(prompts) // 2
            aims, held = prompts[:half], prompts[half:]
            try:
                if _said(loaded, concept, held, None) < FEW:
                    continue  # it does not say so in these words: nothing to remove
                found = remove_concept(loaded, concept, aims)
            except HeadlampError as error:
                print(f"{concept:14} {error}")
                continue
            before, after = (_said(loaded, concept, held, change) for change in (None, found))
            shown += 1
            good += max(after, found.after) < LOW and (found.kl_median or 0) <= LOW
            kls.append(found.kl_median or 0.0)
            print(
                f"{concept:14} {len(found.edits.edits):5}  {found.before:.3f} → {found.after:.1e}  "
                f"{before:.3f} → {after:.1e}  {found.kl_median:.1e}    {found.positions}"
            )
    print(f"{model}: {good} of {shown} as wanted, median of the KL medians {statistics.median(kls):.1e} nats")


def _facts(items: tuple[SkillItem, ...]) -> dict[str, list[str]]:
    """Prompts by answer: of facts with at least two wordings, in the file's order."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in items:
        found[item.answer, item.group].append(item.prompt)
    return {answer: prompts for (answer, _), prompts in found.items() if len(prompts) > 1}


def _said(loaded: LoadedModel, concept: str, prompts: list[str], removed: Removal | None) -> float:
    """Mean P(concept) as the next token."""
    tokens = word_tokens(loaded.vocabulary, loaded.tokenizer, concept)
    ids = [prompt_ids(loaded, prompt) for prompt in prompts]
    changes = () if removed is None else (removed.edits,)
    said = next_token_log_probabilities(loaded, ids, changes)[0]
    return float(said.double().exp()[:, list(tokens)].sum(-1).mean())


if __name__ == "__main__":
    main()
