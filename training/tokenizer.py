"""The tokenizer of all bundled models: BPE over " word" pieces, one token a digit, bytes for the rest."""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from training.corpus import stream

VOCABULARY = 4000
DOCUMENTS = 60_000
SPECIAL = ("<pad>", "<bos>", "<eos>", "<|user|>", "<|assistant|>", "<|end|>")
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))
SPACE = "\u2581"  # as in Llama's vocabularies, a space is written ▁
ESCAPE = (
    "\ue000"  # a ▁ that stands in the text itself is written ESCAPE + "b", and ESCAPE is written ESCAPE + "a"
)
PIECES = (  # a newline | a word | a digit | indentation | a sign | a space on its own
    rf"\n|{SPACE}?[\p{{L}}\p{{M}}]+|\p{{N}}|{SPACE}+(?={SPACE})"
    rf"|{SPACE}?[^\p{{L}}\p{{M}}\p{{N}}\n{SPACE}]|{SPACE}"
)


def _as_plain_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """Mark byte entries as normal: the trainer makes them special, and decoding would drop them."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIAL]
    return Tokenizer.from_str(json.dumps(state))


def _empty() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(ESCAPE, ESCAPE + "a"),
            normalizers.Replace(SPACE, ESCAPE + "b"),
            normalizers.Replace(" ", SPACE),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Replace(ESCAPE + "b", SPACE),
            decoders.Replace(ESCAPE + "a", ESCAPE),
        ]
    )
    return tokenizer


def train_tokenizer(documents: Iterable[str]) -> PreTrainedTokenizerFast:
    """Learn VOCABULARY entries: the special tokens, the 256 bytes, the characters seen, then merges."""
    tokenizer = _empty()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *BYTES],
        min_frequency=2,
        initial_alphabet=[chr(c) for c in range(33, 127)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    tokenizer = _as_plain_bytes(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B:1", special_tokens=[("<bos>", SPECIAL.index("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=list(SPECIAL[3:]),
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=512,
    )


def build(documents: int = DOCUMENTS) -> PreTrainedTokenizerFast:
    return train_tokenizer(islice(stream("tokenizer"), documents))


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    tokenizer.save_pretrained(folder)
