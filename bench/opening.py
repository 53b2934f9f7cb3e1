"""CPU time of opening a model from the command line: `python -m bench.opening FOLDER`.

Fresh processes side by side, RUNS of each: importing torch and the model's class; transformers' own opening
of model and tokenizer; the command line opening it in memory and from disk. The database knows the model, as
it does after the first opening. Printed are medians, in seconds, and what each takes beyond the imports.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

RUNS = 5
IMPORTS = "import torch; from transformers import {kind}, AutoTokenizer"
THEIRS = (
    "; {kind}.from_pretrained({folder!r}, dtype=torch.float32); AutoTokenizer.from_pretrained({folder!r})"
)
OURS = (
    "from workbench.cli.app import app; import gc; gc.freeze(); "
    "from workbench.cli.shared.session import open_session\n"
    "with open_session(None, True) as here, here.model({folder!r}, 'cpu', 'float32') as loaded: pass"
)
INSPECT = "import sys; from workbench.__main__ import main; sys.argv[1:] = ['inspect', {folder!r}]; main()"


def cpu_seconds(code: str, database: str) -> float:
    """User and system time of a fresh Python that runs some code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"HEADLAMP_DB": database, "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    folder = str(Path(sys.argv[1]).resolve())
    kind = json.loads((Path(folder) / "config.json").read_text())["architectures"][0]
    rows = {
        "imports alone": IMPORTS,
        "transformers opens it": IMPORTS + THEIRS,
        "Headlamp opens it": OURS,
        "Headlamp inspects it from disk": INSPECT,
    }
    code = {name: text.format(kind=kind, folder=folder) for name, text in rows.items()}
    taken: dict[str, list[float]] = {name: [] for name in rows}
    with tempfile.TemporaryDirectory() as temporary:
        database = f"{temporary}/headlamp.db"
        first = {name: cpu_seconds(code[name], database) for name in list(rows)[2:]}
        for _ in range(RUNS):
            for name in rows:
                taken[name].append(cpu_seconds(code[name], database))
    imports = median(taken["imports alone"])
    print(f"{'':32}{'CPU s':>8}{'beyond imports':>16}{'first time':>12}")
    for name, seconds in taken.items():
        shown = f"{first[name]:.2f}" if name in first else ""
        print(f"{name:32}{median(seconds):8.2f}{median(seconds) - imports:16.2f}{shown:>12}")


if __name__ == "__main__":
    main()
