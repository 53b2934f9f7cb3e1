"""`python -m workbench COMMAND …`: the command line."""

import sys


def main() -> None:
    """Run the command line; an interruption during imports exits without a traceback."""
    try:
        from workbench.cli.app import app

        app(prog_name="python -m workbench")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
