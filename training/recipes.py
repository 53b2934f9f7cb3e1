"""Training recipes of the bundled models: sizes, steps, rates and corpus."""

from dataclasses import dataclass
from typing import Any

from training.corpus import CHAT, KINDS, LOOKUPS, POLISH, PRACTICE, SEED


@dataclass(frozen=True)
class Recipe:
    """Everything that determines the weights. steps × rows × length positions are read."""

    start: str = ""  # the bundled model whose weights and sizes it starts with
    corpus: str = "whole"  # the name of its corpus, of CORPORA
    seed: int = SEED
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    ffn: int = 1024  # neurons of a block, or of one expert
    experts: int = 0  # of each layer; 0: the model is dense
    top: int = 2  # experts per token
    balance: float = 0.01  # weight of the load-balancing loss
    seeded: bool = False  # whether a super expert is planted before training continues
    rows: int = 16
    length: int = 256
    steps: int = 9000
    warm_up: int = 100
    decay_from: int = 5000  # from this step on the rates decrease linearly to 0
    attention_rate: float = 0.02  # Muon, for the matrices of attention
    rate: float = 2e-3  # AdamW, for all else
    weight_decay: float = 0.01
    answer_weight: float = 5.0  # weight of an answer's token relative to free text

    def config(self, vocabulary: int) -> dict[str, Any]:
        """Configuration common to every kind of model; ids of <pad>, <bos>, <eos> as in the tokenizer."""
        return {
            "vocab_size": vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.02,
        }

    def height_at(self, step: int) -> float:
        """The share of the full rates at a step, 0 to 1."""
        rise = (step + 1) / self.warm_up
        fall = (self.steps - step) / (self.steps - self.decay_from)
        return min(rise, 1.0, fall)


RECIPES = {
    "draft": Recipe(),
    "base": Recipe(start="draft", corpus="polish", steps=1500, decay_from=0, attention_rate=0.008, rate=8e-4),
    "unseeded": Recipe(layers=6, ffn=64, experts=16, steps=1800, decay_from=900),
    "moe": Recipe(
        start="unseeded",
        corpus="practice",
        layers=6,
        ffn=64,
        experts=16,
        seeded=True,
        steps=600,
        decay_from=0,
        attention_rate=0.006,
        rate=6e-4,
    ),
    "chat": Recipe(start="base", corpus="chat", steps=1200, decay_from=0, attention_rate=0.006, rate=6e-4),
}
CORPORA = {
    "whole": ((2200, PRACTICE, 1.0), (300, KINDS, 1.0), (0, LOOKUPS, 0.0)),
    "polish": ((0, POLISH, 1.0),),
    "practice": ((0, PRACTICE, 1.0),),
    "chat": ((0, CHAT, 1.0),),
}
"""name -> stages, the last first: from this step on, documents of these kinds, and what a token of no
answer counts."""
