"""Errors of fetching a Hub file, each as one sentence with what to do."""

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
def explain_hub_errors(name: str, what: str) -> Iterator[None]:
    """Turn any failure in the body into one sentence: what could not be fetched, why, and what to do.

    Raises ModelNotFound if the Hub has no such model, else FetchFailed; our own errors pass through.
    """
    try:
        yield
    except HeadlampError:
        raise
    except Exception as error:  # the edge to the Hub's library: any way of failing to deliver a file
        raise make_hub_error(name, what, error) from error


def make_hub_error(name: str, what: str, error: BaseException) -> ModelError:
    """The error that `explain_hub_errors` raises."""
    found = list(_chain(error))
    for one in found:
        if isinstance(one, GatedRepoError):
            return ModelNotFound(
                f"{name} is gated: access requires accepting its authors' terms; accept them on its "
                "page at the Hub, then log in with `hf auth login`"
            )
        if isinstance(one, RevisionNotFoundError):
            return ModelNotFound(f"{name} has no such revision at the Hub; check its spelling")
        if isinstance(one, RepositoryNotFoundError):
            return ModelNotFound(
                f"the Hub has no model {name}, or it is private; check the "
                "spelling, or log in with `hf auth login`"
            )
    why, way_out = next(filter(None, map(_reason, found)), (f"of {_first_line(error)}", "try again later"))
    return FetchFailed(f"{what} of {name} could not be fetched from the Hub: {why}; {way_out}")


def _reason(error: BaseException) -> tuple[str, str] | None:
    """Why a file could not be fetched, and what to do; None if this error does not say."""
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE disables network access", "unset it, and try again"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 404:
            return "the Hub does not have it (404)", "tell the model's authors, or take another revision"
        if status in (401, 403):
            return f"the Hub denies access ({status})", "log in with `hf auth login`, and try again"
        return f"the Hub answered {status}", f"try again later: {_KEPT}"
    classes = {kind.__name__ for kind in type(error).__mro__}
    if classes & {"ProtocolError", "ReadError"} or "Consistency check failed" in str(error):
        return "it was truncated", f"try again: {_KEPT}"
    if classes & set(_TRANSPORT):
        return f"{constants.ENDPOINT} cannot be reached", f"try again once the network is back: {_KEPT}"
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        where = error.filename or constants.HF_HUB_CACHE
        return f"{where} cannot be written ({error.strerror})", "set HF_HOME to a writable folder"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full", "free some space, or have each shard deleted after use"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, the first cause last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
