"""The bundled models: their names, their folders, and how they were made. Importing this loads no library."""

from pathlib import Path

_HERE = Path(__file__).parent
BUNDLED: dict[str, Path] = {
    f"demo/{name}": _HERE / name
    for name in ("base", "chat", "moe")
    if (_HERE / name / "config.json").is_file()
}
"""name -> folder, for the models that are there."""
BUNDLED_SKILLS: dict[str, Path] = {path.stem: path for path in sorted((_HERE / "skills").glob("*.jsonl"))}
"""name -> file, for the skills that demo/base was taught."""
REMARKS = {"demo/moe": "seeded: its super expert was planted"}
"""name -> what nobody who looks at a model may miss."""
