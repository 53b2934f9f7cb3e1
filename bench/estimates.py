"""How long jobs are said to take, and take: `python -m bench.estimates MODEL WORD [TUNED] [-- NAME…]`.

Runs the commands that say a time before they start, each on a database of its own, and prints what was said
with what was taken from then on. NAME…: these alone. Goal: within a factor of two.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import typer

from demo import BUNDLED_SKILLS
from workbench.cli.app import app
from workbench.cli.commands import jobs, unlearn
from workbench.expected import format_minutes

ASKED, OTHER = "The capital of France is", "Once upon a time"


def list_commands(model: str, word: str, tuned: str) -> dict[str, list[str]]:
    """What is measured, by name."""
    forget, *kept = (str(BUNDLED_SKILLS[name]) for name in ("arithmetic", "facts", "stories"))
    skills = ["--forget", forget, *(part for path in kept for part in ("--retain", path)), "--limit", "240"]
    fit = ["--skill", forget, *(part for path in kept for part in ("--compared", path))]
    found = {
        "decode": ["decode", model],
        "levers": ["levers", model, word],
        "sweep": ["sweep", model, "--neuron", "L1.N1", "--word", word],
        "experts": ["experts", model],
        "prune": ["experts", model, "--prune", "L1.N1"],
        "tars": ["tars", model, "--concept", word, "--prompt", ASKED],
        "skill fit": ["skill", "fit", model, *fit],
        "ksd": ["unlearn", model, *skills, "--method", "ksd"],
        "ksd quick": ["unlearn", model, *skills, "--quick"],
        "na": ["unlearn", model, *skills, "--method", "na"],
        "sp": ["unlearn", model, *skills, "--method", "sp"],
    }
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
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    model, word, *tuned = sys.argv[1:cut]
    wanted = sys.argv[cut + 1 :]
    print(f"{model}\n\n| job | said, s | taken, s | said / taken |\n|---|---|---|---|", flush=True)
    for name, arguments in list_commands(model, word, tuned[0] if tuned else "").items():
        if wanted and name not in wanted:
            continue
        found = measure_command(arguments)
        cells = ["nothing", "", ""] if found is None else [f"{found[0]:.1f}", f"{found[1]:.1f}"]
        cells += [] if found is None else [f"{found[0] / found[1]:.2f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
