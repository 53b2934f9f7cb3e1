"""Every link within the repository leads to a file that is there, and to a heading of it."""

import re
from pathlib import Path

import pytest

BOOKS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "demo/README.md")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def broken(book: Path) -> list[str]:
    """The links of a Markdown file that lead nowhere."""
    found = []
    for path, anchor in LINK.findall(book.read_text(encoding="utf-8")):
        target = (book.parent / path).resolve() if path else book
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(f"{path}#{anchor}")
    return found


def anchors(book: Path) -> set[str]:
    """What GitHub calls a file's headings in links, but for a second one of the same words."""
    text = re.sub(r"^```.*?^```", "", book.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


@pytest.fixture(scope="module")
def books(repo_root: Path) -> list[Path]:
    """All of them."""
    return [path for pattern in BOOKS for path in sorted(repo_root.glob(pattern))]


def test_no_link_leads_nowhere(books: list[Path]) -> None:
    assert len(books) > 10
    assert [f"{book.name}: {link}" for book in books for link in broken(book)] == []


def test_the_index_names_every_book(repo_root: Path, books: list[Path]) -> None:
    index = (repo_root / "docs" / "README.md").read_text(encoding="utf-8")
    linked = {(repo_root / "docs" / path).resolve() for path, _ in LINK.findall(index)}
    assert [
        book.name for book in books if book not in linked and book != repo_root / "docs" / "README.md"
    ] == []


@pytest.mark.parametrize("link", ["[a](gone.md)", "[a](other.md#gone)", "[a](#gone)", "![a](gone.png)"])
def test_a_link_that_leads_nowhere_is_seen(tmp_path: Path, link: str) -> None:
    (tmp_path / "other.md").write_text("# Other, `it` is\n", encoding="utf-8")
    book = tmp_path / "book.md"
    book.write_text(
        f"# Book\n\n[b](other.md#other-it-is) [c](#book) {link} [d](https://a.b/c#d)\n", encoding="utf-8"
    )
    assert len(broken(book)) == 1
