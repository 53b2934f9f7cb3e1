"""Servers that a script or a test starts: a free port, waiting until one answers, and ending it."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress

HOST = "127.0.0.1"
STOP_SECONDS = 10.0


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(process: subprocess.Popen[bytes], port: int, *, seconds: float) -> None:
    """Wait until the app on a port answers. Raises RuntimeError if it ends or takes longer."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(urllib.error.URLError, OSError):
            if urllib.request.urlopen(f"http://{HOST}:{port}/_stcore/health", timeout=2).status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the app did not come up at http://{HOST}:{port}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that began a session of its own, and every process it started."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, ending)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
