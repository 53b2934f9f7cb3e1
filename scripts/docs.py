"""Write what the docs get from the program: the command-line reference, and what the examples print.

python -m scripts.docs             both, but for examples that take long
python -m scripts.docs --slow      those too
python -m scripts.docs --check     write nothing; exit code 1 where a file would change
"""

from __future__ import annotations

import argparse
import sys

from scripts.cli_reference import reference
from scripts.examples import ROOT, find_drift, rewrite, unpasteable

CLI = ROOT / "docs" / "cli.md"
README = ROOT / "README.md"
EXAMPLES = (README, ROOT / "docs" / "examples.md")


def write(*, slow: bool) -> None:
    """Bring the files up to date."""
    CLI.write_text(reference(CLI.read_text(encoding="utf-8")), encoding="utf-8")
    for path in EXAMPLES:
        path.write_text(rewrite(path.read_text(encoding="utf-8"), slow=slow), encoding="utf-8")


def wrong() -> list[str]:
    """What is out of date: the reference, commands that cannot be pasted, and the README's outputs."""
    text = CLI.read_text(encoding="utf-8")
    found = ["docs/cli.md is not what --help says"] if reference(text) != text else []
    for path in EXAMPLES:
        found += [f"{path.name}: {why}" for why in unpasteable(path.read_text(encoding="utf-8"))]
    return [*found, *(f"README.md: {what}" for what in find_drift(README.read_text(encoding="utf-8")))]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m scripts.docs", description=__doc__.split("\n")[0])
    parser.add_argument("--slow", action="store_true", help="also run the examples that take long")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 where that would")
    options = parser.parse_args()
    if not options.check:
        write(slow=options.slow)
        return 0
    found = wrong()
    for what in found:
        print(what, file=sys.stderr)
    if found:
        print("Write the docs anew with: make docs", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
