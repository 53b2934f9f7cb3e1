"""The command `headlamp`, and `python -m headlamp`: the command line."""

import sys
from pathlib import Path

from headlamp.locating import put_house_first


def main() -> None:
    """Run the command line, the same as `python -m workbench`."""
    put_house_first()
    from workbench.__main__ import main as run

    installed = Path(sys.argv[0]).name != "__main__.py"
    run("headlamp" if installed else "python -m headlamp")


if __name__ == "__main__":
    main()
