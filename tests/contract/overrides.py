"""Sizes that make a model tiny: one table for all families, and what single families need besides."""

from __future__ import annotations

from typing import Any

VOCAB = 128
WIDTH, HEADS, HEAD, LAYERS, FFN, EXPERT_FFN, EXPERTS = 32, 4, 8, 3, 48, 24, 4

_WIDTHS = (
    "hidden_size d_model n_embd embedding_size word_embed_proj_dim attention_hidden_size lru_width "
    "emb_dim output_embedding_size input_embedding_size backbone_hidden_size mamba_d_ssm"
)
_HEADS = (
    "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads swa_num_attention_heads mamba_n_heads "
    "mamba_num_heads linear_num_heads linear_num_value_heads linear_num_key_heads"
)
_LAYERS = (
    "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_decoder_layers "
    "num_encoder_layers"
)
_FFNS = (
    "intermediate_size n_inner ffn_dim decoder_ffn_dim encoder_ffn_dim ffn_hidden_size dim_ff dff d_ff "
    "dense_intermediate_size intermediate_size_mlp shared_intermediate_size"
)
_EXPERT_FFNS = (
    "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size "
    "moe_shared_expert_intermediate_size shared_experts_intermediate_size"
)
_EXPERT_COUNTS = "num_experts n_routed_experts num_local_experts moe_num_experts"
_TOP_K = "num_experts_per_tok num_experts_per_token moe_topk moe_top_k moe_k top_k_experts"
_POSITIONS = "max_position_embeddings n_positions max_seq_len seq_length n_ctx"
_WINDOWS = "sliding_window sliding_window_size local_attention attention_chunk_size keep_window_size"
_ONES = "n_group topk_group num_expert_group num_nextn_predict_layers first_k_dense_replace num_dense_layers"
_HEAD_DIMS = (
    "head_dim v_head_dim qk_nope_head_dim qk_rope_head_dim linear_head_dim linear_key_head_dim "
    "linear_value_head_dim swa_head_dim mamba_d_head mamba_head_dim dim_head kv_channels swa_v_head_dim "
    "index_head_dim rotary_dim global_head_dim"
)


def _each(entries: str, changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict.fromkeys(entries.split(), changes)


def _all(names: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    **_all(_WIDTHS, WIDTH),
    **_all(_HEADS, HEADS),
    **_all("num_key_value_heads swa_num_key_value_heads kv_n_heads num_kv_heads", 2),
    **_all(_LAYERS, LAYERS),
    **_all(_FFNS, FFN),
    **_all(_EXPERT_FFNS, EXPERT_FFN),
    **_all(_EXPERT_COUNTS, EXPERTS),
    **_all(_TOP_K, 2),
    **_all(_POSITIONS, 64),
    **_all(_WINDOWS, 16),
    **_all(_ONES, 1),
    **_all(_HEAD_DIMS, HEAD),
    **_all("kv_lora_rank q_lora_rank o_lora_rank gated_norm_rank laurel_rank hc_lowrank", 16),
    **_all("index_n_heads index_topk_blocks", 2),
    "index_topk": 64,
    **_all("mamba_d_state state_size ssm_state_size", 8),
    **_all("hidden_size_per_layer_input ple_embed_dim", 8),
    **_all("vocab_size_per_layer_input decoder_vocab_size unpadded_vocab_size", VOCAB),
    "is_decoder": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_ssm": 64, "mamba_d_state": 8}
_HYBRID = {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}
_SHARED_LAYERS = {
    "attention_hidden_size": 2 * WIDTH,
    "num_hidden_layers": 4,
    "layers_block_type": ["mamba", "hybrid"] * 2,
}
_LATENT = {"num_key_value_heads": HEADS}

OVERRIDES: dict[str, dict[str, Any]] = {
    **_each("axk1 axk2 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa longcat_flash", _LATENT),
    **_each("minicpm3 youtu", _LATENT),
    "granitemoehybrid": _MAMBA | {"layer_types": ["mamba", "attention", "attention"]},
    "bamba": _MAMBA | {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    **_each("bailing_hybrid kimi_linear", _LATENT | _HYBRID),
    **_each("qwen3_5_text qwen3_5_moe_text qwen3_next", _HYBRID),
    **_each("qwen3_5 qwen3_5_moe", {"text_config.": _HYBRID}),
    "beam": {"mlp_layer_types": ["dense", "sparse", "sparse"]},
    "cohere2_moe": {"num_shared_experts": 1},
    "gemma4_text": {"enable_moe_block": True, "num_experts": EXPERTS, "top_k_experts": 2}
    | {"moe_intermediate_size": EXPERT_FFN},
    "granite": {"logits_scaling": 8.0, "residual_multiplier": 0.7},
    "granitemoe": {"logits_scaling": 8.0, "residual_multiplier": 0.7},
    "falcon_h1": {"lm_head_multiplier": 0.5, "mlp_multipliers": [0.7, 1.3]},
    "dots3_note_text": _LATENT | {"layer_types": ["indexed_attention"] * LAYERS},
    "inkling2_text": {"unpadded_vocab_size": VOCAB - 8},
    "dots1": {"n_routed_experts": EXPERTS, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "deepseek_v2": _LATENT | {"num_experts_per_tok": 2},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10_000.0}},
    "gemma3n_text": {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"] * 2}
    | {"num_hidden_layers": 4, "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1], [["global"], 1]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "full_attention"]},
    "mamba2": {"num_heads": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"n_groups": 1, "mamba_num_heads": 8, "mamba_head_dim": 8},
    **_each("zamba zamba2", _SHARED_LAYERS),
    "zaya": {"num_experts_per_tok": 1},
    "roc_bert": {"pronunciation_vocab_size": VOCAB, "shape_vocab_size": VOCAB}
    | {"pronunciation_embed_dim": 16, "shape_embed_dim": 16},
    "reformer": {"is_decoder": True, "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16]},
    "xmod": {"default_language": "en_XX"},
}

_MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}}
_QWEN_VISION = {"depth": 1, "hidden_size": WIDTH, "out_hidden_size": WIDTH, "num_position_embeddings": 16}
OVERRIDES |= {
    "qwen2_vl": {"text_config.": _MROPE, "vision_config.": _QWEN_VISION | {"embed_dim": WIDTH}},
    "qwen2_5_vl": {"text_config.": _MROPE, "vision_config.": _QWEN_VISION | {"fullatt_block_indexes": [0]}},
}

WITHOUT_FFN = ("mamba", "mamba2", "falcon_mamba")
"""Entries whose layers are mixers alone: that they are refused is right."""
