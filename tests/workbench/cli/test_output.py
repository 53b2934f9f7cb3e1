"""stdout holds the answer and nothing else; progress, warnings and interruptions are told on stderr."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.opening.models import LoadedModel
from tests.workbench.conftest import Cli
from workbench.cli.shared.output import Output, format_bytes, format_json, format_number, format_table
from workbench.cli.shared.progress import Bar, format_seconds
from workbench.inspecting import Inspection, inspect_model

COMMAND = [sys.executable, "-m", "workbench"]


@pytest.mark.slow
def test_a_process_prints_one_document_and_nothing_else(repo_root: Path, tiny: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "decode", tiny, "--json"], cwd=repo_root, capture_output=True, check=True
    )
    assert json.loads(done.stdout)["neurons"] == 48
    assert done.stdout.count(b"\n") == 1
    assert done.stdout.isascii()
    assert done.stderr == b""


@pytest.mark.slow
def test_a_process_ends_with_2_and_a_sentence(repo_root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "inspect", tmp_path, "--json"], cwd=repo_root, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"Error: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_a_pipe_that_was_closed_is_silent(repo_root: Path, tiny: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "find", tiny, "dog"], cwd=repo_root, stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_answer_that_finds_no_room_is_told(repo_root: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "models"], cwd=repo_root, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert b"the answer could not be printed: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.slow
def test_streams_that_are_closed_are_no_defect(repo_root: Path, tiny: Path) -> None:
    def ran(redirection: str) -> subprocess.CompletedProcess[bytes]:
        line = f'"{sys.executable}" -m workbench decode "{tiny}" --json {redirection}'
        return subprocess.run(line, shell=True, cwd=repo_root, capture_output=True, check=False)

    unheard, unseen = ran(">&-"), ran("2>&-")
    assert unheard.returncode == 2
    assert unheard.stderr.startswith(b"Error: stdout is closed")
    assert unseen.returncode == 0
    assert json.loads(unseen.stdout)["neurons"] == 48


INTERRUPTED = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
from analysis.neurons import decoding
whole = decoding.decode_vectors
seen = []
def decode(*arguments, **named):
    if "pulse" not in named:  # timed before the job
        return whole(*arguments, **named)
    if seen:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(3000):  # a unit that takes long: it ends when somebody asks it to stop
            named["pulse"](0, 0)
            time.sleep(0.01)
    seen.append(1)
    return whole(*arguments, **named)
decoding.decode_vectors = decode
from workbench.cli.app import app
app(sys.argv[1:])
"""


def test_an_interruption_says_that_what_is_stored_is_kept(repo_root: Path, tiny: Path, cli: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "decode", tiny, "--json"],
        cwd=repo_root,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (128 + signal.SIGINT, b"")
    assert b"Stored results are kept" in done.stderr
    assert b"Traceback" not in done.stderr
    (run,) = cli("runs", "list", "--json").document["runs"]
    assert (run["stored_units"], run["units"]) == (1, 2)


def test_what_libraries_print_does_not_reach_stdout(
    cli: Cli, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chatty(loaded: LoadedModel, context: int | None, device: str) -> Inspection:
        print("a library says hello")
        return inspect_model(loaded, context, device)

    monkeypatch.setattr("workbench.cli.commands.models.inspect_model", chatty)
    answer = cli("inspect", tiny, "--json")
    assert answer.document["layers"] == 2
    assert "a library says hello" in answer.err


def test_a_defect_of_ours_is_not_hidden(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(store: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("workbench.cli.commands.models.list_model_choices", broken)
    with pytest.raises(ZeroDivisionError):
        cli("models")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_null_for_what_is_no_number(value: float) -> None:
    assert format_json({"a": [value, (1.5, {"b": value})]}) == '{"a": [null, [1.5, {"b": null}]]}'


@pytest.mark.parametrize("token", ["\u2028", "\x1b[31m", '"\\', "\ud800", "\0", "é犬"])
def test_json_is_valid_for_any_token(token: str) -> None:
    text = format_json({"token": token})
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {"token": token}


def test_a_table_neither_moves_the_cursor_nor_breaks_its_lines() -> None:
    lines = format_table(("token", "p"), [("\x1b[2Jdog\n", "0.5"), ("犬", "12")]).splitlines()
    assert lines == ["token              p", "<U+001B>[2Jdog⏎  0.5", "犬                12"]


def test_a_stream_that_cannot_carry_a_token_has_it_spelled_out() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(stream, as_json=False).show({}, "␣dog")
    assert raw.getvalue() == b"\\u2423dog\n"


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 bytes"), (999, "999 bytes"), (1040128, "1.04 MB"), (2e15, "2000 TB")]
)
def test_sizes_are_for_people(count: float, shown: str) -> None:
    assert format_bytes(count) == shown


@pytest.mark.parametrize(("value", "shown"), [(None, "–"), (float("nan"), "–"), (0.123456, "0.1235")])
def test_numbers_have_four_digits(value: float | None, shown: str) -> None:
    assert format_number(value) == shown


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bar_shows_done_total_rate_and_time_left() -> None:
    stream, clock = Terminal(), Clock()
    bar = Bar("decoding up", stream, clock)
    for done in range(3):
        clock.now = done * 2.0
        bar(done, 12)
    assert stream.getvalue().endswith("decoding up [####--------------------] 2/12  0.5/s  20 s left")
    bar(12, 12)
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_resumed_bar_counts_only_what_it_saw_done() -> None:
    stream, clock = Terminal(), Clock()
    bar = Bar("decoding", stream, clock)
    bar(10, 20)
    clock.now = 5.0
    bar(15, 20)
    assert stream.getvalue().endswith("15/20  1/s  5 s left")


def test_a_log_gets_a_line_now_and_then_and_none_for_what_is_quick() -> None:
    stream, clock = io.StringIO(), Clock()
    bar = Bar("decoding", stream, clock)
    for done in range(31):
        clock.now = float(done)
        bar(done, 31)
    bar(31, 31)
    assert [line.split()[1] for line in stream.getvalue().splitlines()] == ["10/31", "20/31", "30/31"]
    assert "\x1b" not in stream.getvalue()


def test_a_bar_on_a_stream_that_is_gone_is_no_error() -> None:
    stream, clock = Terminal(), Clock()
    bar = Bar("decoding", stream, clock)
    stream.close()
    clock.now = 1.0
    bar(0, 2)


@pytest.mark.parametrize(("seconds", "shown"), [(0.4, "0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_for_people(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown
