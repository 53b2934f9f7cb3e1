"""How long jobs are said to take, and take: `python -m bench.estimates MODEL [NAME…] [OPTION]…`.

Runs the commands that say a time before they start, each on a database of its own, and prints what was said
with what was taken from then on. NAME…: of jobs, these alone. Goal: within a factor of two.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import typer

from demo import BUNDLED_SKILLS
from workbench.cli.app import app
from workbench.cli.commands import jobs, unlearn
from workbench.expected import format_minutes


def list_commands(model: str, word: str, removed: str, prompt: str, tuned: str) -> dict[str, list[str]]:
    """The jobs that are measured, by name."""
    forget, *kept = (str(BUNDLED_SKILLS[name]) for name in ("arithmetic", "facts", "stories"))
    skills = ["--forget", forget, *(part for path in kept for part in ("--retain", path)), "--limit", "240"]
    fit = ["--skill", forget, *(part for path in kept for part in ("--compared", path))]
    found = {
        "decode": ["decode", model],
        "levers": ["levers", model, word],
        "sweep": ["sweep", model, "--neuron", "L1.N1", "--word", word],
        "experts": ["experts", model],
        "prune": ["experts", model, "--prune", "L1.N1"],
        "skill fit": ["skill", "fit", model, *fit],
        "ksd": ["unlearn", model, *skills, "--method", "ksd"],
        "ksd quick": ["unlearn", model, *skills, "--quick"],
        "na": ["unlearn", model, *skills, "--method", "na"],
        "sp": ["unlearn", model, *skills, "--method", "sp"],
    }
    found |= {"tars": ["tars", model, "--concept", removed, "--prompt", prompt]} if removed else {}
    return found | ({"compare": ["compare", model, tuned]} if tuned else {})


def measure_command(arguments: list[str]) -> tuple[float, float] | None:
    """Seconds said and taken; None where nothing was said."""
    said: list[tuple[float, float]] = []

    def note(seconds: float) -> str:
        said.append((seconds, time.perf_counter()))
        return format_minutes(seconds)

    jobs.format_minutes = unlearn.format_minutes = note  # type: ignore[attr-defined]
    jobs.SHORTEST_SAID = 0.0
    command = typer.main.get_command(app)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        command.main([*arguments, "--db", str(Path(folder) / "bench.db")], standalone_mode=False)
    seconds, begun = said[-1] if said else (0.0, 0.0)
    return (seconds, time.perf_counter() - begun) if said else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--word", default="day", help="for levers and sweep")
    parser.add_argument("--removed", default="", help="a concept to remove, with --prompt")
    parser.add_argument("--prompt", default="What is the capital of France?", help="which it answers")
    parser.add_argument("--tuned", default="", help="a model to compare with")
    given = parser.parse_args()
    print(f"{given.model}\n\n| job | said, s | taken, s | said / taken |\n|---|---|---|---|", flush=True)
    commands = list_commands(given.model, given.word, given.removed, given.prompt, given.tuned)
    for name in given.names or commands:
        arguments = commands[name]
        found = measure_command(arguments)
        cells = ["nothing", "", ""] if found is None else [f"{found[0]:.1f}", f"{found[1]:.1f}"]
        cells += [] if found is None else [f"{found[0] / found[1]:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
