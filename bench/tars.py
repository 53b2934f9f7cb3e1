"""TARS benchmark: ten facts of one token removed from a chat model: `python -m bench.tars [MODEL] [SET]`.

A set is five capitals and five others, fixed before its first run by what the model says of them unchanged:
`second`, the default, was chosen when the search was final, `first` was seen while it was made. Each is
aimed at with two wordings and asked in
three others, which count where the model said the word with P ≥ .3 before. First with every vector, while the
others' answers are to stay; then the five capitals in sequence; then with the vectors of neurons alone.
Goals: P < .05 in the held-out wordings for at least 8 of 10, and for 3 of 10 without head rows; chat KL
median ≤ .01 nats, in sequence too; 90 % of unrelated greedy answers unchanged.
"""

from __future__ import annotations

import sys
import time

from analysis.errors import HeadlampError
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.conversations import Conversation
from workbench.unlearning.concepts.questions import Concept, ConceptQuestion
from workbench.unlearning.concepts.removals import (
    RemovedConcept,
    answer_other,
    compare_answers,
    remove_concepts,
)

CAPITALS = {
    "first": {
        "Paris": "France",
        "Berlin": "Germany",
        "Tokyo": "Japan",
        "Athens": "Greece",
        "Vienna": "Austria",
    },
    "second": {
        "Cairo": "Egypt",
        "Warsaw": "Poland",
        "Ottawa": "Canada",
        "London": "England",
        "Beijing": "China",
    },
}
WORDINGS = (
    "What is the capital of {}?",
    "Which city is the capital of {}?",
    "{} has which city as its capital?",
    "Tell me the capital of {}.",
    "Can you tell me what the capital city of {} is?",
)
OF_FIRST = {
    "Einstein": (
        "Who developed the theory of relativity?",
        "Who came up with E = mc²?",
        "Which physicist discovered the theory of relativity?",
        "Who is the father of the theory of relativity?",
        "Tell me who wrote the paper on general relativity.",
    ),
    "Shakespeare": (
        "Who wrote Romeo and Juliet?",
        "Who is the author of Hamlet?",
        "Which playwright wrote Macbeth?",
        "Tell me who wrote Othello.",
        "Who wrote the play King Lear?",
    ),
    "Lincoln": (
        "Which US president abolished slavery?",
        "Who delivered the Gettysburg Address?",
        "Who was president during the American Civil War?",
        "Which president signed the Emancipation Proclamation?",
        "Tell me who was the 16th president of the United States.",
    ),
    "photosynthesis": (
        "How do plants make food from sunlight?",
        "What is the process by which plants turn light into energy?",
        "What do plants do with sunlight and carbon dioxide?",
        "Which process in plants produces oxygen?",
        "Tell me how plants get energy from the sun.",
    ),
    "Africa": (
        "On which continent is Kenya?",
        "On which continent is the Sahara desert?",
        "Which continent is Nigeria in?",
        "In which continent does the Nile flow?",
        "On what continent do you find Ethiopia?",
    ),
}
OF_SECOND = {
    "Darwin": (
        "Who developed the theory of evolution by natural selection?",
        "Who wrote On the Origin of Species?",
        "Which naturalist sailed on the Beagle?",
        "Tell me who proposed natural selection.",
        "Which scientist is the father of evolution?",
    ),
    "oxygen": (
        "Which gas do humans need to breathe?",
        "Which gas do plants give off in sunlight?",
        "What gas does blood carry from the lungs?",
        "Tell me which gas a fire needs to burn.",
        "Which gas makes up 21 percent of air?",
    ),
    "mitochondria": (
        "What is the powerhouse of the cell?",
        "Which organelles make ATP?",
        "What part of the cell produces energy?",
        "Tell me which organelle is responsible for cellular respiration.",
        "Which organelle makes energy for the cell?",
    ),
    "Leonardo": (
        "Who painted the Mona Lisa?",
        "Who is the painter of the Mona Lisa?",
        "Which artist painted the Mona Lisa?",
        "Tell me who painted the Mona Lisa.",
        "Who painted The Last Supper?",
    ),
    "heart": (
        "Which organ pumps blood through the body?",
        "Tell me which organ moves the blood.",
        "Which organ pumps blood?",
        "What organ beats in your chest?",
        "What muscle pumps blood?",
    ),
}
OTHERS = {"first": OF_FIRST, "second": OF_SECOND}
AIMS = 2
"""The first wordings are aimed with, the others held out."""
MANY = 16
"""Most vectors where head rows stay untouched."""


def list_concepts(name: str) -> tuple[Concept, ...]:
    """The ten facts of a set."""
    lands = CAPITALS[name]
    asked = {city: tuple(wording.format(land) for wording in WORDINGS) for city, land in lands.items()}
    return tuple(
        Concept(word, tuple(map(Conversation, texts[:AIMS])), tuple(map(Conversation, texts[AIMS:])))
        for word, texts in (asked | OTHERS[name]).items()
    )


def main() -> None:
    """Print a row per fact, and how many reach the goals."""
    model = sys.argv[1] if len(sys.argv) > 1 else ".cache/smollm2/safetensors"
    name = sys.argv[2] if len(sys.argv) > 2 else "second"
    if name not in CAPITALS:
        sys.exit(f"{name!r} is no set of facts; choose {' or '.join(CAPITALS)}")
    concepts = list_concepts(name)
    with lease_model(ModelRef(model)) as loaded:
        print(HEAD)
        found = [_run(loaded, concepts, one, head_rows=True) for one in concepts]
        print(f"P < .05 in all held-out wordings: {_count(found)} of 10\n\nfive capitals in sequence")
        sequence = remove_concepts(loaded, ConceptQuestion(concepts[: len(CAPITALS[name])]))
        for one in sequence.concepts:
            print(_row(one, ""), flush=True)
        print("\nwithout head rows, bounded on neutral text alone")
        spared = [_run(loaded, concepts, one, head_rows=False) for one in concepts]
        print(_count(spared))


def _count(found: list[RemovedConcept | None]) -> str:
    removed = [one for one in found if one is not None and not one.kept_elsewhere]
    bounded = sum(one.holds for one in removed)
    return (
        f"P < .05 in all counted held-out wordings: {len(removed)} of {len(found)}; {bounded} of them within "
        "all bounds"
    )


HEAD = (
    "concept         aimed            held out (worst)       zeroed   vectors    rows  "
    "chat KL median, p95, max    raw KL median, max   unchanged  other facts  seconds"
)


def _run(
    loaded: LoadedModel, concepts: tuple[Concept, ...], concept: Concept, *, head_rows: bool
) -> RemovedConcept | None:
    """One fact removed; the others' first prompts are to stay, without head rows they are only measured."""
    others = tuple(one.prompts[0] for one in concepts if one.word != concept.word)
    asked = ConceptQuestion((concept,), others)
    if not head_rows:
        asked = ConceptQuestion((concept,), edits=MANY, head_rows=False)
    started = time.perf_counter()
    try:
        found = remove_concepts(loaded, asked)
    except HeadlampError as error:
        print(f"{concept.word:14} refused: {error}", flush=True)
        return None
    kept = found.other or compare_answers(loaded, answer_other(loaded, others), found.edits.edits)
    assert kept is not None
    (one,) = found.concepts
    print(_row(one, f"{kept[0]:.2f}         {time.perf_counter() - started:.0f}"), flush=True)
    return one


def _row(one: RemovedConcept, rest: str) -> str:
    counted = [p for p in one.take("held_out") if p.counted]
    aimed = one.take("aimed")
    kl, raw = one.effects.chat or one.effects.raw, one.effects.raw
    rows = sum(edit.site == "head" for edit in one.found.edits)
    held = f"{_mean(p.before for p in counted):.3f} → {max((p.after for p in counted), default=1):.1e}"
    zeroed = max((p.zeroed for p in counted), default=1)
    aim = f"{_mean(p.before for p in aimed):.3f} → {_mean(p.after for p in aimed):.1e}"
    costs = f"{kl.median:.1e} {kl.p95:.1e} {kl.largest:.1e}     {raw.median:.1e} {raw.largest:.1e}"
    return (
        f"{one.word:14} {aim}  {held} (of {len(counted)})  {zeroed:.1e}  "
        f"{len(one.found.edits):5}      {rows}    "
        f"{costs}   {one.effects.unchanged:.2f}       {rest}{'' if one.holds else '  failed'}"
    )


def _mean(values: object) -> float:
    numbers = list(values)  # type: ignore[call-overload]
    return sum(numbers) / max(len(numbers), 1)


if __name__ == "__main__":
    main()
