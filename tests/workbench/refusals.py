"""What several tests share of refusals."""

from tests.workbench.conftest import Cli


def refused(cli: Cli, *arguments: object, says: str) -> None:
    """The command ends with exit code 2, nothing on stdout, and the words on stderr."""
    answer = cli(*arguments)
    assert answer.code == 2, answer
    assert says in answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
