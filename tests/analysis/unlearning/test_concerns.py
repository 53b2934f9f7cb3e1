"""What is said of sets before anything is measured: one wording, prompts alike, several languages."""

from __future__ import annotations

from analysis.skills.items import Skill, SkillItem
from analysis.skills.splits import Split, split_skill
from analysis.unlearning.concerns import list_concerns
from analysis.unlearning.scenes import Scene

THINGS = [f"thing{number}" for number in range(40)]


def ask(name: str, wordings: tuple[str, ...], languages: tuple[str, ...] = ("en",)) -> Split:
    items = [
        SkillItem(wording.format(thing), "yes", group=thing, wording=wording, lang=language)
        for thing in THINGS
        for wording, language in zip(wordings, languages * len(wordings), strict=False)
    ]
    return split_skill(Skill(name, tuple(items)))


MANY = ("where does {} live", "{} lives in which place", "tell me the home of {}", "in what town is {} found")


def test_nothing_is_said_of_sets_that_differ() -> None:
    kept = ask("colours", ("which colour has {} today", "is {} red or green"))
    assert list_concerns(Scene(ask("homes", MANY), (kept,))) == ()


def test_a_skill_in_too_few_wordings_is_accepted_with_a_warning() -> None:
    [said] = list_concerns(Scene(ask("homes", MANY[:1]), ()))
    assert said.startswith("homes has one wording: a method can learn the form")
    assert list_concerns(Scene(ask("homes", MANY[:3]), ()))[0].startswith("homes has 3 wordings")


def test_a_kept_set_that_asks_the_same_in_nearly_the_same_words_is_named() -> None:
    same = ask("places", tuple(f"please now say {wording} if you can at all" for wording in MANY))
    mine = ask("homes", tuple(f"please now say {wording} if you can at once" for wording in MANY))
    [said] = list_concerns(Scene(mine, (same,)))
    assert "prompts of places, which is to be kept, are nearly those of homes" in said
    assert list_concerns(Scene(mine, (), (same,))) == (said,)


def test_a_kept_set_that_wraps_the_skill_in_a_greeting_is_named() -> None:
    wrapped = ask("polite", tuple(f"Hello! I hope that you are well today. {wording}" for wording in MANY))
    [said] = list_concerns(Scene(ask("homes", MANY), (wrapped,)))
    assert "prompts of polite, which is to be kept, are nearly those of homes" in said


def test_a_skill_in_several_languages_is_named() -> None:
    [said] = list_concerns(Scene(ask("homes", MANY, ("en", "fr")), ()))
    assert said.startswith("homes mixes 2 languages (en, fr)")
