"""Memory used by decoding from disk: `python -m bench.from_disk [GIGABYTES]`, default 6.

For a sharded checkpoint, one in a single file with a tied head, and one with fused experts, each written to a
temporary folder and deleted after use: the peak resident memory (VmHWM) of a fresh process that decodes it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.checkpoints import CONFIGS, write


def measure_decoding(folder: Path) -> dict[str, float]:
    """Decode a folder in a process of its own: seconds and peak bytes."""
    command = [sys.executable, "-m", "bench.from_disk", "--child", str(folder)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def child(folder: Path) -> None:
    """Decode, and print time and memory."""
    from analysis.opening.models import ModelRef
    from store import open_store
    from workbench.models import open_model
    from workbench.neurons.decoding import decode_model

    begin = _peak()
    store = open_store(folder / "bench.db")
    started = time.perf_counter()
    with open_model(ModelRef(str(folder), streamed=True), store) as loaded:
        decode_model(loaded, store, site="down")
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "peak": _peak(), "before": begin}))


def _peak() -> int:
    """VmHWM of this process, in bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def main() -> None:
    if "--child" in sys.argv:
        child(Path(sys.argv[-1]))
        return
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 6.0
    for name in CONFIGS:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "model"
            size = write(name, folder, gigabytes)
            found = measure_decoding(folder)
        print(
            f"{name:18} {size / 1e9:.2f} GB on disk, peak {found['peak'] / 1e9:.2f} GB "
            f"(libraries alone {found['before'] / 1e9:.2f}), {found['seconds']:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
