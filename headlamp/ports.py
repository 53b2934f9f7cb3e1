"""Check whether the app can listen on a port, before Streamlit starts."""

import errno
import socket

HOST = "127.0.0.1"
LAST_PORT = 65_535
CONNECT_SECONDS = 1.0


def answers(port: int) -> bool:
    """Whether some program accepts connections on the port, also one that listens on every address."""
    with socket.socket() as probe:
        probe.settimeout(CONNECT_SECONDS)
        return probe.connect_ex((HOST, port)) == 0


def bind_error(port: int) -> int:
    """The errno of binding to the port as a server does, or 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return 0


def next_free(port: int) -> int | None:
    """The first free port above this one, or None."""
    candidates = range(port + 1, min(port + 100, LAST_PORT + 1))
    return next((other for other in candidates if not answers(other) and not bind_error(other)), None)


def problem(text: str) -> str | None:
    """What is wrong with this port and what to do, or None if the app can listen on it."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LAST_PORT):
        return f"{text} is not a port: give a whole number from 1 to {LAST_PORT}, as in: {_write_start(8502)}"
    port = int(text)
    error = errno.EADDRINUSE if answers(port) else bind_error(port)
    if error == errno.EADDRINUSE:
        other = next_free(port)
        way_out = f"start on another port: {_write_start(other)}" if other else "choose another port"
        return (
            f"Port {port} on {HOST} is in use, perhaps by a Headlamp that is already open "
            f"(http://{HOST}:{port}). Stop that program, or {way_out}"
        )
    if error:
        return f"This user may not listen on port {port}. Choose one above 1023, as in: {_write_start(8502)}"
    return None


def _write_start(port: int) -> str:
    """The commands that start the app on a port."""
    return f"headlamp app --port {port} (in a clone: make app PORT={port})"
