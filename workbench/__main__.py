"""`python -m workbench COMMAND …`: the command line."""

import gc
import sys


def main(program: str = "python -m workbench") -> None:
    """Run the command line; an interruption during imports exits without a traceback. program: how it calls
    itself.
    """
    try:
        from workbench.cli.app import app

        gc.freeze()  # libraries stay: collections while a model is opened need not look at them
        app(prog_name=program)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
