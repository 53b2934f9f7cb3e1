"""Formats of quantised weights: which a config.json names, and which tensors make a weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.checkpoints.quantised.bitsandbytes import (
    describe_four_bit,
    make_eight_bit,
    make_four_bit,
)
from analysis.checkpoints.quantised.compressed import (
    describe_compressed,
    explain_compressed,
    make_compressed,
)
from analysis.checkpoints.quantised.fp8 import describe_fp8, make_fp8
from analysis.checkpoints.quantised.gptq import describe_awq, describe_gptq, make_awq, make_gptq
from analysis.checkpoints.quantised.mxfp4 import make_mxfp4
from analysis.checkpoints.quantised.parts import DequantisedTensor, Part
from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

Settings = Mapping[str, Any]
"""The entry of config.json that describes a quantisation."""


@dataclass(frozen=True)
class _Format:
    """How a method stores a weight.

    endings: ending of a key → what replaces it in the weight's key, and the tensor's role. A weight's own key
    has the role "weight". required: sets of roles, of which a quantised weight has at least one.
    library: transformers' class of settings with which it dequantises such weights while it loads them; "":
    it dequantises them afterwards; None: not at all.
    of_activations: endings of scales that change no weight, but how a GPU's kernels round their inputs.
    """

    endings: Mapping[str, tuple[str, str]]
    required: tuple[frozenset[str], ...]
    make: Callable[[str, Mapping[str, Part], Settings], DequantisedTensor]
    describe: Callable[[Settings], str]
    library: str | None
    of_activations: tuple[str, ...] = ()


_FP8 = _Format(
    {
        "_scale_inv": ("", "scale"),
        ".scale": (".weight", "scale"),
        ".qscale_weight": (".weight", "scale"),
    },
    (frozenset({"weight", "scale"}),),
    make_fp8,
    describe_fp8,
    "FineGrainedFP8Config",
    (".activation_scale", "_activation_scale", ".qscale_act"),
)
_MXFP4 = _Format(
    {"_blocks": ("", "blocks"), "_scales": ("", "scales")},
    (frozenset({"blocks", "scales"}),),
    make_mxfp4,
    lambda settings: "MXFP4",
    "Mxfp4Config",
)
_INTEGERS = {
    ".qweight": (".weight", "qweight"),
    ".qzeros": (".weight", "qzeros"),
    ".scales": (".weight", "scales"),
}
_GPTQ = _Format(
    {**_INTEGERS, ".g_idx": (".weight", "g_idx")},
    (frozenset({"qweight", "qzeros", "scales"}),),
    make_gptq,
    describe_gptq,
    None,
)
_AWQ = _Format(_INTEGERS, (frozenset({"qweight", "qzeros", "scales"}),), make_awq, describe_awq, None)
_FOUR_BIT = _Format(
    {
        ".nested_absmax": ("", "nested_absmax"),
        ".nested_quant_map": ("", "nested_quant_map"),
        ".absmax": ("", "absmax"),
        ".quant_map": ("", "quant_map"),
        ".quant_state.bitsandbytes__nf4": ("", "state"),
        ".quant_state.bitsandbytes__fp4": ("", "state"),
    },
    (frozenset({"weight", "absmax", "quant_map", "state"}),),
    make_four_bit,
    describe_four_bit,
    "",
)
_EIGHT_BIT = _Format(
    {".SCB": (".weight", "largest"), ".weight_format": (".weight", "layout")},
    (frozenset({"weight", "largest"}),),
    make_eight_bit,
    lambda settings: "bitsandbytes int8",
    "",
)
_COMPRESSED = _Format(
    {
        ".weight_packed": (".weight", "packed"),
        ".weight_scale": (".weight", "scale"),
        ".weight_zero_point": (".weight", "zeros"),
        ".weight_global_scale": (".weight", "global"),
        ".weight_shape": (".weight", "shape"),
        ".weight_g_idx": (".weight", "order"),
    },
    (frozenset({"packed", "scale"}), frozenset({"weight", "scale"})),
    make_compressed,
    describe_compressed,
    "CompressedTensorsConfig",
    tuple(
        f".{of}{what}"
        for of in ("input_", "output_", "k_", "v_", "q_")
        for what in ("scale", "zero_point", "global_scale")
    ),
)
_FORMATS = {
    "fp8": _FP8,
    "mxfp8": _FP8,
    "mxfp4": _MXFP4,
    "gptq": _GPTQ,
    "awq": _AWQ,
    "bitsandbytes": _FOUR_BIT,
    "bitsandbytes_4bit": _FOUR_BIT,
    "bitsandbytes_8bit": _EIGHT_BIT,
    "compressed-tensors": _COMPRESSED,
}
"""By `quant_method`, as transformers knows them."""
_NAMES = ("FP8", "MXFP4", "GPTQ", "AWQ", "bitsandbytes", "compressed-tensors")


@dataclass(frozen=True)
class Quantisation:
    """A format with a model's settings of it."""

    format: _Format
    settings: Settings

    def describe(self) -> str:
        """What the weights are dequantised from, such as "dequantised from FP8 in blocks of 128 × 128"."""
        return f"dequantised from {self.format.describe(self.settings)}"

    def group(self, keys: Collection[str]) -> dict[str, dict[str, str]]:
        """Weight's key → role → key of the tensor, of all weights that several tensors make. Tensors that
        lack a weight or a scale are left out, as all unquantised ones are.
        """
        return {key: roles for key, roles in self._collect(keys).items() if self._is_whole(roles)}

    def _collect(self, keys: Collection[str]) -> dict[str, dict[str, str]]:
        """The same of all weights with any part but their own key."""
        found: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for key in keys:
            for ending, (replacement, role) in self.format.endings.items():
                if key.endswith(ending):
                    found[key.removesuffix(ending) + replacement][role] = key
                    break
        for key in found.keys() & set(keys):
            found[key]["weight"] = key
        return found

    def require_whole(self, keys: Collection[str]) -> None:
        """Raise NotAModel for a weight of which a part is missing, naming it. A scale beside no weight is
        not taken for a part: others have tensors of such names too.
        """
        for key, roles in self._collect(keys).items():
            if self._is_whole(roles) or roles.keys() <= {"weight", "scale"}:
                continue
            needed = max(self.format.required, key=lambda one: len(one & roles.keys()))
            missing = ", ".join(sorted(self._name_part(key, role) for role in needed - roles.keys()))
            raise NotAModel(
                f"the quantised weight {key} is not whole: {missing} is missing beside "
                f"{', '.join(sorted(roles.values()))}{AGAIN}"
            )

    def _name_part(self, key: str, role: str) -> str:
        """The key of a tensor that a weight has by its role."""
        for ending, (replacement, of) in self.format.endings.items():
            if of == role and key.endswith(replacement):
                return key.removesuffix(replacement) + ending
        return key

    def _is_whole(self, roles: Mapping[str, str]) -> bool:
        return any(needed <= roles.keys() for needed in self.format.required)

    def is_of_activations(self, key: str) -> bool:
        """Whether a tensor is a scale of activations, which belongs to no weight."""
        return key.endswith(self.format.of_activations)

    def make(self, key: str, parts: Mapping[str, Part]) -> DequantisedTensor:
        """The weight that some tensors, by their roles, make. Raises NotAModel if they contradict."""
        return self.format.make(key, parts, self.settings)


def find_quantisation(where: str, settings: Settings) -> Quantisation:
    """The format that settings describe. where: the model, for errors. Raises NotAModel for any other, saying
    what to do.
    """
    method = settings.get("quant_method") or settings.get("quant_type")
    for bits in ("4bit", "8bit"):
        method = f"bitsandbytes_{bits}" if settings.get(f"load_in_{bits}") else method
    found = _FORMATS.get(str(method).lower())
    why = f"quantised {_name_method(settings, method)}" if found is None else _explain_variant(settings)
    if why:
        raise NotAModel(
            f"{where} holds weights {why}, which Headlamp cannot read; use the model in float32, bfloat16 or "
            f"float16, or in one of the formats {', '.join(_NAMES)}, GGUF"
        )
    assert found is not None
    return Quantisation(found, settings)


def _name_method(settings: Settings, method: Any) -> str:
    bits = settings.get("bits")
    return f"as {method}" if method else f"to {bits} bits" if bits else "by a method it does not name"


def _explain_variant(settings: Settings) -> str:
    """A layout of a known method that is another one; empty where it is not."""
    method = str(settings.get("quant_method")).lower()
    if method == "compressed-tensors":
        return explain_compressed(settings)
    layout = settings.get("checkpoint_format") or settings.get("version") or settings.get("format") or ""
    known = {"gptq": ("", "gptq", "gptq_v2"), "awq": ("", "gemm")}
    if method in known and str(layout).lower() not in known[method]:
        return f"quantised as {method} in the layout {layout}, which its kernels alone define"
    if method == "awq" and settings.get("bits", settings.get("w_bit", 4)) != 4:
        return f"quantised as awq with {settings.get('bits')} bits, for which no layout is published"
    return ""
