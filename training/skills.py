"""Writes `demo/skills/<skill>.jsonl`: exercises, held out from training, in the layout of a skill file."""

import json
from pathlib import Path
from random import Random

import demo
from training.corpus import SEED, SKILLS
from training.text.item import Item

FOLDER = demo.FOLDER / "skills"
COUNT = 360  # per skill, at least


def record(item: Item) -> dict[str, str]:
    """One line of a skill file; lang only where it is not English."""
    fields = {
        "prompt": item.prompt,
        "answer": item.answer,
        "judge": item.judge,
        "group": item.group,
        "wording": item.wording,
    }
    return fields if item.lang == "en" else fields | {"lang": item.lang}


def items(skill: str) -> list[Item]:
    return SKILLS[skill](Random(f"held-out-{skill}-{SEED}"), COUNT)


def read(skill: str) -> list[dict[str, str]]:
    """The stored exercises of one skill."""
    return [json.loads(line) for line in (FOLDER / f"{skill}.jsonl").read_text(encoding="utf-8").splitlines()]


def write_all(folder: Path = FOLDER) -> None:
    folder.mkdir(exist_ok=True)
    for skill in SKILLS:
        lines = [json.dumps(record(item), ensure_ascii=False) + "\n" for item in items(skill)]
        (folder / f"{skill}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write_all()
