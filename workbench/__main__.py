"""`python -m workbench COMMAND …`: the command line."""

import gc
import sys


def main() -> None:
    """Run the command line; an interruption during imports exits without a traceback."""
    try:
        from workbench.cli.app import app

        gc.freeze()  # libraries stay: collections while a model is opened need not look at them
        app(prog_name="python -m workbench")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
