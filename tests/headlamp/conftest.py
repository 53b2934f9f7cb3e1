"""The bundled model, opened as in a notebook, and the command line on the same database."""

from collections.abc import Iterator

import pytest

import headlamp
from tests.workbench.conftest import cli, tiny

__all__ = ["cli", "tiny"]


@pytest.fixture
def base() -> Iterator[headlamp.Model]:
    """demo/base, with the database of the test."""
    with headlamp.open("demo/base") as model:
        yield model
