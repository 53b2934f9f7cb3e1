"""Generate parts of the docs: the command-line reference, the output of examples, the notebook.

python -m scripts.docs             both, without slow examples
python -m scripts.docs --slow      slow examples and the notebook, too
python -m scripts.docs --check     write nothing; exit code 1 where a file would change
"""

from __future__ import annotations

import argparse
import sys

from scripts.cli_reference import reference
from scripts.examples import ROOT, find_drift, find_unpasteable, rewrite
from scripts.notebook import is_stale, write_notebook

CLI = ROOT / "docs" / "cli.md"
README = ROOT / "README.md"
EXAMPLES = (README, ROOT / "docs" / "examples.md")


def write(*, slow: bool) -> None:
    """Update the files."""
    CLI.write_text(reference(CLI.read_text(encoding="utf-8")), encoding="utf-8")
    for path in EXAMPLES:
        path.write_text(rewrite(path.read_text(encoding="utf-8"), slow=slow), encoding="utf-8")
    if slow:
        write_notebook()


def wrong() -> list[str]:
    """What is out of date: the reference, commands that cannot be pasted, and the README's outputs."""
    text = CLI.read_text(encoding="utf-8")
    found = ["docs/cli.md does not match --help"] if reference(text) != text else []
    if is_stale():
        found.append("docs/notebook.ipynb is not made of docs/notebook.py: python -m scripts.docs --slow")
    for path in EXAMPLES:
        found += [f"{path.name}: {why}" for why in find_unpasteable(path.read_text(encoding="utf-8"))]
    return [*found, *(f"README.md: {what}" for what in find_drift(README.read_text(encoding="utf-8")))]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m scripts.docs", description=__doc__.split("\n")[0])
    parser.add_argument("--slow", action="store_true", help="also run the slow examples and the notebook")
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit with 1 if something would change"
    )
    options = parser.parse_args()
    if not options.check:
        write(slow=options.slow)
        return 0
    found = wrong()
    for what in found:
        print(what, file=sys.stderr)
    if found:
        print("Update the docs with: make docs", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
