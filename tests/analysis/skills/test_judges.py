"""Judges of text, and unit tests of code that must be contained."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from analysis.errors import BadSkillFile, JudgeError
from analysis.skills import unit_tests
from analysis.skills.items import SkillItem
from analysis.skills.judges import judge_output
from analysis.skills.unit_tests import UnitTests, run_program


@pytest.mark.parametrize(
    ("judge", "answer", "output", "right"),
    [
        ("number", "1072", " so 24 and then 1,072 apples.", True),
        ("number", "1072", " 1072 and then 3", False),
        ("number", "0.5", "it costs $.50", True),
        ("number", "-3", "the answer is -3", True),
        ("number", "-3", "the answer is −3 °C", True),
        ("number", "2", "7-2", True),
        ("number", "4", "no number", False),
        ("number", "1500", "that is 1.5e3", True),
        ("number", "1.5e3", "so 1,500 m", True),
        ("number", "3", "that is 1.5e3", False),
        ("number", "1e-07", "about 0.0000001", True),
        ("number", "1e-07", "about 7", False),
        ("number", "1e+16", "10000000000000000", True),
        ("number", "5", "2e5x", True),
        ("number", "1,072 apples", "1072", True),
        ("substring", "Café", "le CAFE\u0301 noir", True),
        ("substring", "STRASSE", "in der Straße", True),
        ("substring", "tea", "coffee", False),
        ("exact", "yes", "\n  yes \nno", True),
        ("exact", "yes", "yes, it is", False),
        ("exact", "yes", "", False),
    ],
)
def test_judges_of_text(judge: str, answer: str, output: str, right: bool) -> None:
    assert judge_output(SkillItem("q", answer, judge), output) is right  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "answer", ["1,5", "NaN", "inf", "1e999", "seven", "½", "1½", "1/2", "3 m2", "10²", "1.000,5", "7-2", "Ⅷ"]
)
def test_an_answer_that_is_not_one_finite_number_is_refused(answer: str) -> None:
    with pytest.raises(BadSkillFile, match=f"'q': the answer '{answer}' is not one finite number"):
        SkillItem("q", answer, "number")


@pytest.mark.parametrize("answer", ["$18", "−3 °C", "5.", "12,34,567", "1,072.50", ".5", "+4", "0012", "40%"])
def test_one_number_with_or_without_a_unit_is_an_answer(answer: str) -> None:
    assert judge_output(SkillItem("q", answer, "number"), f"It is {answer}")


def test_a_judge_of_another_sort_refuses_a_text() -> None:
    with pytest.raises(JudgeError, match="choice does not judge a text"):
        judge_output(SkillItem("q", "0", "choice", choices=("a",)), "a")


@pytest.fixture
def contained() -> unit_tests.Container:
    try:
        return UnitTests().container()
    except JudgeError as error:
        pytest.skip(str(error))


GOOD = SkillItem("def double(x):\n", "", "tests", tests=("assert double(4) == 8",), setup="def double(x):\n")


def test_code_that_is_right_passes_and_code_that_is_wrong_does_not(contained: unit_tests.Container) -> None:
    assert UnitTests().passes(GOOD, "    return 2 * x")
    assert not UnitTests().passes(GOOD, "    return x")
    assert not UnitTests().passes(GOOD, "    return (")


CONTAINED = {
    "loops for ever": "while True: pass",
    "prints for ever": "while True: print('x' * 9999)",
    "forks": "import os\nwhile True: os.fork()",
    "starts a program": "import subprocess\nsubprocess.run(['/bin/true'], check=True)",
    "takes all memory": "x = 'x' * 10**10",
    "ends early": "import sys\nsys.exit(0)",
    "ends at once": "import os\nos._exit(0)",
    "calls the network": "import socket\nsocket.create_connection(('127.0.0.1', {port}))",
    "reads secrets": "open('/etc/passwd').read()",
    "writes beside itself": "open('written', 'w').write('x')",
    "writes anywhere": "open({target!r}, 'w').write('x')",
    "deletes its neighbours": "import os\nos.remove({target!r})",
    "kills the others": "import os\nos.kill({pid}, 9)",
}


@pytest.mark.parametrize("deed", CONTAINED)
def test_code_cannot_do_harm(
    contained: unit_tests.Container, deed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_tests, "SECONDS", 1)
    kept = tmp_path / "kept"
    kept.write_text("mine")
    os.chmod(tmp_path, 0o777)
    os.chmod(kept, 0o666)
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = CONTAINED[deed].replace("{port}", str(server.getsockname()[1]))
        program = program.replace("{target!r}", repr(str(kept))).replace("{pid}", str(os.getpid()))
        started = time.monotonic()
        assert not run_program(program, contained)
        assert time.monotonic() - started < 30
    assert kept.read_text() == "mine"


def test_nothing_runs_bare_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(unit_tests, "_container", lambda: "none")
    mark = tmp_path / "ran"
    code = f"    return 2 * x\nopen({str(mark)!r}, 'a')"
    with pytest.raises(JudgeError, match="; install bubblewrap, or pass --unsafe-tests"):
        UnitTests().passes(GOOD, code)
    assert not mark.exists()
    mark.touch()
    assert UnitTests(unsafe=True).passes(GOOD, code)
