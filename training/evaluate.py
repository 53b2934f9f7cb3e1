"""Greedy accuracy on the six skills: `python -m training.evaluate MODEL`, a bundled name or folder."""

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from demo import BUNDLED
from training import skills
from training.corpus import SKILLS
from training.judges import judge

NEW_TOKENS = 40
STOP = "\n\n"  # a blank line ends an answer
Z = 1.959964  # two-sided 95 %


@dataclass(frozen=True)
class Score:
    """right of n exercises; interval is Wilson's 95 % interval for the accuracy."""

    right: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.n or self.n == 0:
            raise ValueError(f"{self.right} of {self.n} exercises is not a score; give at least one exercise")

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        p, n = self.accuracy, self.n
        middle = p + Z * Z / (2 * n)
        half = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        scale = 1 + Z * Z / n
        return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def load(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model in float32 and its tokenizer, from files of this machine only."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)


@torch.inference_mode()
def answers(
    model: PreTrainedModel, tok: PreTrainedTokenizerFast, prompts: list[str], batch_size: int = 60
) -> list[str]:
    """Greedy continuations, cut at the first blank line, in the order of the prompts.

    A chat model is prompted through its template."""
    # prompts of like length share a batch, so that little of it is padding
    if tok.chat_template:
        prompts = [_in_chat(tok, prompt) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    outputs = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        inputs = tok(
            [prompts[i] for i in chosen],
            return_tensors="pt",
            padding=True,
            return_token_type_ids=False,
            add_special_tokens=not tok.chat_template,
        )
        ids = model.generate(
            **inputs, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=tok.pad_token_id
        )
        texts = tok.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, texts, strict=True):
            outputs[i] = text.split(STOP)[0]
    return outputs


def _in_chat(tok: PreTrainedTokenizerFast, prompt: str) -> str:
    turn = [{"role": "user", "content": prompt}]
    return str(tok.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))


def evaluate(
    model: PreTrainedModel,
    tok: PreTrainedTokenizerFast,
    skill: str,
    limit: int | None = None,
    show_errors: bool = False,
) -> Score:
    """limit: so many exercises, spread over the file; None for all."""
    items = skills.read(skill)
    items = items if limit is None else items[:: max(1, len(items) // limit)][:limit]
    outputs = answers(model, tok, [item["prompt"] for item in items])
    verdicts = [
        judge(item["judge"], output, item["answer"]) for item, output in zip(items, outputs, strict=True)
    ]
    for item, output, right in zip(items, outputs, verdicts, strict=True):
        if show_errors and not right:
            print(
                f"{skill} {item['wording']}: {item['prompt']!r} -> {output!r}, not {item['answer']!r}",
                file=sys.stderr,
            )
    return Score(sum(verdicts), len(verdicts))


def report(name: str, scores: dict[str, Score]) -> dict[str, object]:
    return {
        "model": name,
        "skills": {
            skill: {"accuracy": round(s.accuracy, 4), "n": s.n, "interval": [round(x, 4) for x in s.interval]}
            for skill, s in scores.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help=f"{', '.join(BUNDLED)} or a folder")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--skill", choices=SKILLS, action="append", help="only this skill (repeats)")
    parser.add_argument("--errors", action="store_true", help="wrong answers to stderr")
    options = parser.parse_args()
    folder = BUNDLED.get(options.model, Path(options.model))
    if not (folder / "config.json").is_file():
        parser.error(f"{folder} holds no model; run `make demo-models`, or name a folder with a config.json")
    model, tok = load(folder)
    scores = {
        skill: evaluate(model, tok, skill, show_errors=options.errors) for skill in options.skill or SKILLS
    }
    if options.json:
        print(json.dumps(report(options.model, scores)))
        return
    for skill, score in scores.items():
        low, high = score.interval
        print(f"{skill:12} {score.accuracy:6.1%}  [{low:.1%}, {high:.1%}]  n = {score.n}")


if __name__ == "__main__":
    main()
