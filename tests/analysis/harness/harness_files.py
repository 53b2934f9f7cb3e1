"""Task files of lm-evaluation-harness in the words of the tiny tokenizer, with data beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHOICE = """task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: gold
doc_to_choice: "{{{{options}}}}"
target_delimiter: ""
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 3}}
"""
GENERATE = """task: tiny_generate
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 5}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
ROLLING = """task: tiny_rolling
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list:
  - {{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}}
"""
GREEDY = """task: tiny_greedy
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
target_delimiter: ""
metric_list:
  - {{metric: perplexity, aggregation: perplexity, higher_is_better: false}}
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


def words(*numbers: int) -> str:
    """A text of so many tokens of the tiny tokenizer."""
    return "".join(f" w{number % 70}" for number in numbers)


def documents(count: int = 24) -> list[dict[str, Any]]:
    """Questions of different lengths, each with three options of different lengths; every gold occurs."""
    return [
        {
            "question": words(*range(number, number + 3 + number % 5)),
            "options": [words(number + 9, number + 11), words(2 * number + 1), words(number, 5, 6)],
            "gold": number % 3,
            "answer": words(number + 9, number + 11),
        }
        for number in range(count)
    ]


def task_file(folder: Path, template: str, records: Sequence[Mapping[str, Any]]) -> Path:
    """The template as a YAML file whose data lies beside it."""
    name = template.splitlines()[0].removeprefix("task: ")
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    path = folder / f"{name}.yaml"
    path.write_text(template.format(data=data), encoding="utf-8")
    return path
