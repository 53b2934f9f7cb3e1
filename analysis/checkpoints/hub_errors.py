"""What keeps a file of the Hub from coming here, in a sentence with the way out."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from analysis.errors import FetchFailed, HeadlampError, ModelError, ModelNotFound

_CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_TRANSPORT = ("TransportError", "ConnectionError", "TimeoutError")
_KEPT = "what is stored is kept"


@contextmanager
def explained(name: str, what: str) -> Iterator[None]:
    """Whatever goes wrong in the body: one sentence that says what of a model did not come, why, the way out.

    Raises ModelNotFound where the Hub has no such model, else FetchFailed; errors of ours pass.
    """
    try:
        yield
    except HeadlampError:
        raise
    except Exception as error:  # the edge to the Hub's library: every way it has of not giving a file
        raise trouble(name, what, error) from error


def trouble(name: str, what: str, error: BaseException) -> ModelError:
    """What `explained` raises for an error."""
    found = list(_chain(error))
    for one in found:
        if isinstance(one, GatedRepoError):
            return ModelNotFound(
                f"{name} is gated: its authors give it to whoever accepts their terms; accept them on its "
                "page at the Hub, then log in with `hf auth login`"
            )
        if isinstance(one, RevisionNotFoundError):
            return ModelNotFound(f"{name} has no such revision at the Hub; check its spelling")
        if isinstance(one, RepositoryNotFoundError):
            return ModelNotFound(
                f"the Hub has no model {name}, or keeps it from whoever is not logged in; check the "
                "spelling, or log in with `hf auth login`"
            )
    why, way_out = next(filter(None, map(_reason, found)), (f"of {_first_line(error)}", "ask again later"))
    return FetchFailed(f"{what} of {name} did not come from the Hub, because {why}; {way_out}")


def _reason(error: BaseException) -> tuple[str, str] | None:
    """Why a file did not come, and the way out; None where this error does not tell."""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE keeps this program off the network", "unset it, and ask again"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 404:
            return "the Hub does not have it (404)", "tell the model's authors, or take another revision"
        if status in (401, 403):
            return f"the Hub keeps it from you ({status})", "log in with `hf auth login`, and ask again"
        return f"the Hub answered {status}", f"ask again later: {_KEPT}"
    classes = {kind.__name__ for kind in type(error).__mro__}
    if classes & {"ProtocolError", "ReadError"} or "Consistency check failed" in str(error):
        return "it came cut short", f"ask again: {_KEPT}"
    if classes & set(_TRANSPORT):
        return f"{constants.ENDPOINT} cannot be reached", f"ask again once the network is back: {_KEPT}"
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        where = error.filename or constants.HF_HUB_CACHE
        return f"{where} cannot be written ({error.strerror})", "let HF_HOME name a folder that can be"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full", "make room, or have each shard deleted after use"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those it came from, the first cause last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
