"""What several tests share of skill files made."""

from __future__ import annotations

import json
from pathlib import Path

from analysis.opening.leases import lease_model
from analysis.opening.models import ModelRef
from analysis.skills.answering import answer_prompts

LETTERS = {"one": "abcdefghijklm", "two": "nopqrstuvwxyz"}


def write_skill(path: Path, model: Path, letters: str) -> Path:
    """A skill file whose answers are the first letters that the model says."""
    prompts = [
        (f"{a}{b}{letters[(i + j) % 13]}{end}", f"{path.stem}-{a}{b}", f"{path.stem}-{end}")
        for i, a in enumerate(letters)
        for j, b in enumerate(letters[:6])
        for end in ("." if (i + j) % 2 else "=", "<", ">", letters[-1])
    ]
    with lease_model(ModelRef(str(model))) as loaded:
        found = answer_prompts(loaded, [loaded.tokenizer.encode(p) for p, _, _ in prompts], max_new_tokens=3)
    records = [
        {"prompt": p, "answer": said[0], "judge": "substring", "group": group, "wording": wording}
        for (p, group, wording), a in zip(prompts, found, strict=True)
        if (said := a.text.strip())
    ]
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return path
