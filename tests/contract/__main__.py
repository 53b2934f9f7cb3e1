"""`make contract`: every entry of transformers' causal-LM mapping, a line each, and the page in the docs.

python -m tests.contract ENTRY…      these entries alone; the page stays
python -m tests.contract formats     the page's table of formats alone
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.contract.builder import ENTRIES
from tests.contract.formats import FormatRow, check_format, list_formats, replace_section, write_section
from tests.contract.outcomes import Outcome, outcome_of
from tests.contract.overrides import WITHOUT_FFN
from tests.contract.table import table

SECONDS = 300
"""For one entry; a core of its own needs two or three."""

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def main(entries: Sequence[str]) -> None:
    """Check the entries; write the page where they are all of them. The last line counts."""
    if tuple(entries) == ("formats",):
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(replace_section(page, write_section(list(rows_of_formats()))), encoding="utf-8")
        return
    outcomes = []
    for outcome in outcomes_of(entries or ENTRIES):
        print(outcome, flush=True)
        outcomes.append(outcome)
    if not entries:
        section = write_section(list(rows_of_formats()))
        PAGE.write_text(table(outcomes, section), encoding="utf-8")
    built = [o for o in outcomes if o.status != "not built"]
    supported = [o for o in built if o.status == "supported"]
    with_ffn = [o for o in built if o.entry not in WITHOUT_FFN]
    print(f"continue a text from a cache: {sum(not o.stuck for o in supported)} of {len(supported)}")
    print(f"with an FFN: {len(supported)} of {len(with_ffn)}, {len(supported) / max(len(with_ffn), 1):.1%}")
    print(f"{len(supported)} supported, {len(built) - len(supported)} unsupported, of {len(built)} built")


def rows_of_formats() -> Iterator[FormatRow]:
    """Each format of weights, printed as it is checked."""
    for name in list_formats():
        row = check_format(name)
        print(row, flush=True)
        yield row


def outcomes_of(entries: Sequence[str]) -> Iterator[Outcome]:
    """Each entry in another process, which is replaced where it does not answer in time."""
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(1)
    for entry in entries:
        try:
            yield pool.apply_async(outcome_of, (entry,)).get(SECONDS)
        except multiprocessing.TimeoutError:
            pool.terminate()
            pool = context.Pool(1)
            yield Outcome(entry, "broken", reason=f"no answer in {SECONDS} s")
        except Exception as error:  # an entry that crashes a check is a result of the check
            yield Outcome(entry, "broken", reason=f"{type(error).__name__}: {error}")
    pool.terminate()


if __name__ == "__main__":
    main(sys.argv[1:])
