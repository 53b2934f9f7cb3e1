"""The three judges of the demo's exercises, edge cases first of all."""

import unicodedata

import pytest

from training import judges


@pytest.mark.parametrize(
    ("name", "output", "answer", "right"),
    [
        ("number", " 23 + 45 = 68", "68", True),
        ("number", "68 apples, no, 69", "68", False),
        ("number", "$1,200.", "1200", True),
        ("number", "it is 7.0", "7", True),
        ("number", "-5 degrees", "-5", True),
        ("number", "8-5", "5", True),
        ("number", "none", "0", False),
        ("number", "", "0", False),
        ("number", ".5", "0.5", True),
        ("substring", "It is PARIS.", "Paris", True),
        ("substring", "Lyon", "Paris", False),
        ("substring", unicodedata.normalize("NFD", "Chloé"), "chloé", True),
        ("substring", "anything", "", False),
        ("exact", " Hello, Tom \nmore", "Hello, Tom", True),
        ("exact", "hello, tom", "Hello, Tom", False),
        ("exact", "", "x", False),
        ("exact", "\nTrue", "True", True),
    ],
)
def test_a_judge(name, output, answer, right):
    assert judges.judge(name, output, answer) is right


def test_an_unknown_judge_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="'vibes' is not known; use one of number, substring, exact"):
        judges.judge("vibes", "a", "a")
