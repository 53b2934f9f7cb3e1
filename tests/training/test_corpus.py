"""The corpus and the six skill files: true, deterministic, and held out where they say so."""

import contextlib
import io
import re
from itertools import combinations, islice
from random import Random

import pytest

from training import skills
from training.corpus import CHAT, KINDS, POLISH, SKILLS, document, stream
from training.text import arithmetic, associations, code, comprehension, facts, openended
from training.text.french import FRENCH
from training.text.item import Item
from training.text.knowledge import RELATIONS
from training.text.openings import SEEN
from training.text.spanish import SPANISH
from training.text.stories import ENGLISH
from training.text.words import CATEGORIES, LISTS

ALL_SKILLS = pytest.mark.parametrize("skill", SKILLS)


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return [document for kinds in (KINDS, POLISH, CHAT) for document in islice(stream(kinds=kinds), 8_000)]


def test_a_seed_gives_the_same_documents_and_another_seed_gives_others(documents):
    assert list(islice(stream(kinds=KINDS), 200)) == documents[:200]
    assert list(islice(stream("other", KINDS), 200)) != documents[:200]


def test_the_corpus_has_thousands_of_distinct_words(documents):
    assert len(set(re.findall(r"[^\W\d]+", " ".join(documents).casefold()))) > 2000


@ALL_SKILLS
def test_a_skill_has_enough_exercises_groups_and_wordings(skill):
    items = skills.items(skill)
    assert len(items) >= 300
    assert len({item.prompt for item in items}) == len(items)
    assert len({item.group for item in items}) >= 90
    by_group: dict[str, set[str]] = {}
    for item in items:
        by_group.setdefault(item.group, set()).add(item.wording)
    assert sum(len(wordings) >= 2 for wordings in by_group.values()) >= 0.9 * len(by_group)


@ALL_SKILLS
def test_the_stored_skill_file_is_what_the_generator_writes(skill):
    assert skills.read(skill) == [skills.record(item) for item in skills.items(skill)]


@ALL_SKILLS
def test_no_held_out_prompt_occurs_in_the_training_text(skill, documents):
    text = "\0".join(documents)
    assert [item.prompt for item in skills.items(skill) if item.prompt in text] == []


@ALL_SKILLS
def test_a_skill_asks_in_wordings_that_training_uses_and_in_some_it_never_uses(skill, documents):
    wordings = {item.wording for item in skills.items(skill)}
    unseen = {w for w in wordings if "-u" in w}
    assert len(unseen) >= 2
    assert len(wordings - unseen) >= 3


def _template_is_told(template: str, text: str) -> bool:
    pattern = re.sub(r"\\\{\w+\\\}", r"[^\\n?.]{1,30}", re.escape(template))
    return re.search(pattern, text) is not None


def test_unseen_wordings_are_in_no_document_and_known_ones_are(documents):
    text = "\n".join(documents)
    for operation, templates in arithmetic.UNSEEN.items():
        assert not any(_template_is_told(t, text) for t in templates)
        assert all(_template_is_told(t, text) for t in arithmetic.WORDINGS[operation])
    for language in (ENGLISH, FRENCH, SPANISH):
        for facet in language.facets:
            who, who_unseen = (
                tuple(t.replace("{deed}", facet.deed) for t in templates)
                for templates in (language.who, language.who_unseen)
            )
            assert not any(_template_is_told(t, text) for t in facet.unseen + who_unseen), facet.name
            assert all(_template_is_told(t, text) for t in facet.questions + who), facet.name


def test_reserved_sums_are_never_asked_in_training_not_even_bare(documents):
    asked = re.findall(r"(?m)^(\d+) ([+-]) (\d+)\nAnswer:", "\n".join(documents))
    assert len(asked) > 300
    names = {"+": "add", "-": "sub"}
    assert not any(
        arithmetic.is_reserved(names[sign], int(a), int(b), "")
        for a, sign, b in asked
        if int(b) > 9 and int(b) % 10
    )
    rng = Random(4)
    for _ in range(3000):
        item = arithmetic.training_item(rng)
        operation, a, b = item.group.split("-")
        assert not arithmetic.is_reserved(
            operation, int(a), int(b), item.wording.removeprefix(operation + "-")
        )


def test_a_worked_answer_is_right_at_every_step_and_ends_in_the_result():
    assert arithmetic.work_out("add", 47, 38) == "47 + 30 = 77, 77 + 8 = 85"
    assert arithmetic.work_out("mul", 7, 8) == "7 * 8 = 56"
    for item in skills.items("arithmetic"):
        for step in item.completion.split(","):
            left, right = step.split("=")
            assert eval(left) == int(right)
        assert item.completion.endswith(f" {item.answer}")


def test_reserved_pairs_of_person_and_value_are_never_told():
    rng = Random(5)
    for language in (ENGLISH, FRENCH, SPANISH):
        for _ in range(300):
            for told in comprehension.story(rng, language).known:
                assert not comprehension.pair_is_reserved(language, told.facet, told.person, told.value)


def test_arithmetic_answers_are_right():
    for item in skills.items("arithmetic"):
        operation, a, b = item.group.split("-")
        expected = {"add": int(a) + int(b), "sub": int(a) - int(b), "mul": int(a) * int(b)}[operation]
        assert item.answer == str(expected)
        assert {a, b} <= set(re.findall(r"\d+", item.prompt))


def _printed(source: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(source, {})
    return out.getvalue()


def test_python_exercises_print_what_they_say():
    for item in skills.items("python"):
        assert _printed(item.prompt) == item.answer + "\n", item.prompt


def test_python_documents_print_what_they_say():
    rng = Random(3)
    for _ in range(400):
        program = code.program(rng, reserved=False)
        assert _printed(program.source) == program.output + "\n", program.source


def test_a_question_asks_for_what_its_sentence_tells_last():
    rng = Random(11)
    for language in (ENGLISH, FRENCH, SPANISH):
        asked = {True: 0, False: 0}
        for _ in range(300):
            story = comprehension.story(rng, language)
            told = story.known[0]
            item = comprehension.ask(language, story, 0, "q0", "")
            first, last = (told.value, told.person) if told.person_last else (told.person, told.value)
            assert item.answer == last
            assert any(
                sentence.find(first) < sentence.find(last)
                for sentence in re.split(r"(?<=\w)\. ", story.text)
                if first in sentence and last in sentence
            )
            asked[told.person_last] += 1
        assert min(asked.values()) > 60


def test_comprehension_answers_stand_in_their_story():
    for skill in ("stories", "french", "spanish"):
        for item in skills.items(skill):
            assert item.answer in item.prompt
            assert item.lang == {"stories": "en", "french": "fr", "spanish": "es"}[skill]


def test_a_question_of_a_story_has_one_answer():
    """Nobody shares a value, so "who" is unique; nobody has two values of one facet."""
    rng = Random(9)
    for _ in range(300):
        known = [(t.facet.name, t.person, t.value) for t in comprehension.story(rng, ENGLISH).known]
        assert len({(f, n) for f, n, _ in known}) == len({(f, v) for f, _, v in known}) == len(known)


def test_facts_are_true_where_we_can_say_so_by_hand():
    told = {relation.name: dict(relation.facts) for relation in RELATIONS}
    assert told["capital"]["France"] == "Paris"
    assert told["capital"]["Peru"] == "Lima"
    assert told["capital"]["Kenya"] == "Nairobi"
    assert told["eats"]["panda"] == "bamboo"
    assert told["young"]["dog"] == "puppy"
    assert told["sound"]["cow"] == "moos"
    assert told["next"]["Sunday"] == "Monday"
    assert told["next"]["December"] == "January"
    assert told["opposite"]["hot"] == "cold"
    assert told["opposite"]["cold"] == "hot"
    assert told["colour"]["snow"] == "white"
    assert told["continent"]["Egypt"] == "Africa"
    assert told["language"]["Brazil"] == "Portuguese"


def test_a_relation_has_one_object_per_subject_and_enough_wordings():
    for relation in RELATIONS:
        subjects = [subject for subject, _ in relation.facts]
        assert len(set(subjects)) == len(subjects), relation.name
        assert len(relation.wordings) >= 5
        assert len(relation.unseen) >= 2


def test_every_held_out_fact_is_in_training_in_another_wording():
    """Held out is the wording, never the fact."""
    for relation in RELATIONS:
        for subject, _ in relation.facts:
            assert any(
                not facts.is_reserved(relation, subject, str(i)) for i in range(len(relation.wordings))
            )


def test_favourites_are_few_and_drawn_evenly_and_rarer_words_are_listed():
    assert all(len(set(words)) == len(words) <= 16 for words in CATEGORIES.values())
    assert all(set(CATEGORIES[category]) < set(words) for category, words in LISTS.items() if len(words) > 16)
    rng = Random(1)
    text = "\n".join(openended.document(rng) for _ in range(40_000))
    drawn = re.findall(r"My favourite animal is the (\w+)\.", text)
    assert set(drawn) == set(CATEGORIES["animal"])
    assert max(drawn.count(w) for w in set(drawn)) < 0.15 * len(drawn)
    listed = set(re.findall(r"\w+", "\n".join(openended.listing(rng) for _ in range(10_000))))
    assert {"hippo", "seal", "quince", "cornet"} <= listed


def test_every_category_has_openings_of_its_own():
    assert set(CATEGORIES) == set(SEEN)
    assert all(len(templates) >= 3 for templates in SEEN.values())


def test_every_kind_of_document_is_drawn():
    rng = Random(0)
    for make, weight in [*POLISH.values(), *CHAT.values()]:
        assert weight > 0
        assert len(make(rng)) > 5
    assert document(Random(4)) == document(Random(4))


def test_an_exercise_whose_answer_is_not_in_its_completion_is_refused():
    with pytest.raises(ValueError, match="not in the completion"):
        Item("1 + 1 =", " 2", "3", "number", "g", "w")
    with pytest.raises(ValueError, match="begin with a space"):
        Item("1 + 1 =", "2", "2", "number", "g", "w")


def test_two_associations_name_one_word_or_very_few():
    words: dict[frozenset[str], set[str]] = {}
    for word, cues in associations.TABLE:
        for pair in combinations(cues, 2):
            words.setdefault(frozenset(pair), set()).add(word)
    unclear = sum(len(named) > 1 for named in words.values())
    assert unclear < 0.01 * len(words)
