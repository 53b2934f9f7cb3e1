"""What several tests share of evaluations made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from analysis.opening.models import LoadedModel
from analysis.skills.answering import answer_prompts
from analysis.skills.items import Skill
from analysis.skills.splits import split_skill
from analysis.skills.tasks import MeasureOptions
from analysis.unlearning.evaluating import evaluate_method, measure_baseline
from analysis.unlearning.results import Baseline, FitSettings, MethodResult
from analysis.unlearning.scenes import Scene
from tests.analysis.skills_made import make_skill

WAYS = MeasureOptions(max_new_tokens=2)


PLAN = FitSettings(shares=(1.0, 20.0), ways=WAYS, layers="all", measure="box", key="last", wrap=False)


def answered(loaded: LoadedModel, skill: Skill) -> Skill:
    """The skill with the model's own answers for answers: the model is right on all of it."""
    ids = [loaded.tokenizer.encode(item.prompt) for item in skill.items]
    found = answer_prompts(loaded, ids, max_new_tokens=2)
    items = [
        replace(item, answer=answer.text.strip())
        for item, answer in zip(skill.items, found, strict=True)
        if answer.text.strip()
    ]
    return Skill(skill.name, tuple(items))


@pytest.fixture
def scene(llama: LoadedModel) -> Scene:
    """Two skills in words of their own, whose embeddings are moved apart."""
    embedding = llama.parameters["model.embed_tokens.weight"]
    embedding[10:40] += 2 * torch.randn(1, embedding.shape[1], generator=torch.Generator().manual_seed(5))
    skills = [
        answered(llama, make_skill(name, 40, words, 6))
        for name, words in (("one", (0, 28)), ("two", (40, 80)))
    ]
    first, second = (split_skill(skill) for skill in skills)
    return Scene(first, (second,))


def run(loaded: LoadedModel, scene: Scene, method: Any, **changed: Any) -> tuple[MethodResult, Baseline]:
    plan = replace(PLAN, **changed)
    base = measure_baseline(loaded, scene, plan)
    return evaluate_method(loaded, scene, method, plan, base), base
