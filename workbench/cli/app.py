"""The command line's commands and error handling."""

from __future__ import annotations

import errno
from typing import Any

import typer
from typer.core import TyperGroup

from analysis.errors import HeadlampError
from store import StoreError
from workbench.cli.commands.compare import compare_
from workbench.cli.commands.experts import experts
from workbench.cli.commands.findings import findings
from workbench.cli.commands.generate import generate
from workbench.cli.commands.harness import harness
from workbench.cli.commands.jobs import jobs
from workbench.cli.commands.levers import concepts, levers
from workbench.cli.commands.models import inspect, models
from workbench.cli.commands.neuron import neuron
from workbench.cli.commands.neurons import decode, find
from workbench.cli.commands.repair import repair
from workbench.cli.commands.runs import runs
from workbench.cli.commands.save import save
from workbench.cli.commands.skills import skill, tars
from workbench.cli.commands.sweep import sweep
from workbench.cli.commands.unlearn import unlearn_
from workbench.cli.serving import serve_app
from workbench.cli.shared.output import say

DONE, DIFFERENT, REFUSED, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
"""Exit codes. DIFFERENT: a re-run finding does not match; the last two are 128 + the signal's number."""


class ErrorBoundary(TyperGroup):
    """Handles our own errors: one message on stderr and an exit code; anything else is a bug."""

    def invoke(self, ctx: Any) -> Any:
        """Run the requested command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(PIPE_CLOSED) from None
        except (HeadlampError, StoreError) as error:
            say(f"Error: {error}")
            raise typer.Exit(REFUSED) from error
        except OSError as error:
            say(f"Error: {_file_error(error)}")
            raise typer.Exit(REFUSED) from error
        except KeyboardInterrupt:
            say("\nInterrupted. Stored results are kept: repeat the command to resume.")
            raise typer.Exit(INTERRUPTED) from None


def _file_error(error: OSError) -> str:
    name = "" if error.filename is None else f"{str(error.filename)[:200]}: "
    why = error.strerror or errno.errorcode.get(error.errno or 0, "input or output failed")
    return f"{name}{why}; check the file, its folder and the free disk space"


app = typer.Typer(
    cls=ErrorBoundary,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Decode a language model's neurons, clamp them, and keep the evidence.",
)
app.command("app")(serve_app)
app.command()(models)
app.command()(inspect)
app.command()(decode)
app.command()(find)
app.command()(neuron)
app.command("compare")(compare_)
app.command()(generate)
app.command()(sweep)
app.command()(levers)
app.command()(concepts)
app.command()(experts)
app.command("unlearn")(unlearn_)
app.command()(tars)
app.command()(save)
app.command()(harness)
app.add_typer(skill, name="skill")
app.add_typer(findings, name="findings")
app.add_typer(runs, name="runs")
app.add_typer(jobs, name="jobs")
app.command()(repair)
