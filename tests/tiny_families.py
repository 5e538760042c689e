"""Tiny models of families that are built otherwise: several towers, experts, state spaces, lists without block class.

Every model comes from its family's own config and classes, with random weights and a tokenizer of `tiny_models`. A
text alone is what they are given; towers for images stay unread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch
import transformers
from tiny_models import HIDDEN_SIZE, INITIALIZER_RANGE, MAX_TOKENS, N_BLOCKS, N_HEADS, _train_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

_Sizes = dict[str, Any]


def _usual(vocabulary: int) -> _Sizes:
    return {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN_SIZE,
        "num_hidden_layers": N_BLOCKS,
        "num_attention_heads": N_HEADS,
        "num_key_value_heads": N_HEADS,
        "intermediate_size": 2 * HIDDEN_SIZE,
        "max_position_embeddings": MAX_TOKENS,
        "initializer_range": INITIALIZER_RANGE,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _decoder(vocabulary: int) -> _Sizes:
    return _usual(vocabulary) | {"head_dim": HIDDEN_SIZE // N_HEADS}


def _vision(**sizes: Any) -> _Sizes:
    return {
        "hidden_size": HIDDEN_SIZE,
        "num_hidden_layers": N_BLOCKS,
        "num_attention_heads": N_HEADS,
        "intermediate_size": 2 * HIDDEN_SIZE,
        "image_size": 32,
        "patch_size": 8,
    } | sizes


def _gemma3(n: int) -> PreTrainedModel:
    text = _decoder(n) | {"sliding_window": 16, "query_pre_attn_scalar": HIDDEN_SIZE // N_HEADS}
    config = transformers.Gemma3Config(text_config=text, vision_config=_vision(), mm_tokens_per_image=4)
    return transformers.Gemma3ForConditionalGeneration(config)


def _llava(n: int) -> PreTrainedModel:
    vision = _vision() | {"model_type": "clip_vision_model", "projection_dim": HIDDEN_SIZE}
    config = transformers.LlavaConfig(
        text_config=_usual(n) | {"model_type": "llama"}, vision_config=vision, image_token_id=n - 1
    )
    return transformers.LlavaForConditionalGeneration(config)


def _qwen2_5_vl(n: int) -> PreTrainedModel:
    vision = {
        "hidden_size": HIDDEN_SIZE, "depth": N_BLOCKS, "num_heads": N_HEADS, "intermediate_size": 2 * HIDDEN_SIZE,
        "out_hidden_size": HIDDEN_SIZE, "patch_size": 8, "spatial_merge_size": 2, "window_size": 32,
        "fullatt_block_indexes": [1],
    }  # fmt: skip
    text = _usual(n) | {"rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [1, 1, 2]}}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def _smolvlm(n: int) -> PreTrainedModel:
    config = transformers.SmolVLMConfig(
        text_config=_usual(n) | {"model_type": "llama"}, vision_config=_vision(), image_token_id=n - 1,
        scale_factor=2, pad_token_id=0,
    )  # fmt: skip
    return transformers.SmolVLMForConditionalGeneration(config)


def _paligemma(n: int) -> PreTrainedModel:
    vision = _vision() | {"model_type": "siglip_vision_model", "projection_dim": HIDDEN_SIZE}
    config = transformers.PaliGemmaConfig(
        text_config=_decoder(n) | {"model_type": "gemma"}, vision_config=vision, projection_dim=HIDDEN_SIZE,
        image_token_id=n - 1,
    )  # fmt: skip
    return transformers.PaliGemmaForConditionalGeneration(config)


def _clip(n: int) -> PreTrainedModel:
    text = _usual(n) | {"projection_dim": 16}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=_vision(projection_dim=16)))


def _experts(n: int, **more: Any) -> _Sizes:
    return _decoder(n) | {"num_experts_per_tok": 2, "moe_intermediate_size": 16} | more


def _deepseek_v3(n: int) -> PreTrainedModel:
    sizes = _usual(n) | {
        "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
        "v_head_dim": 8, "head_dim": 4,
    }  # fmt: skip
    return transformers.DeepseekV3ForCausalLM(transformers.DeepseekV3Config(**sizes))


def _mamba(n: int) -> PreTrainedModel:
    sizes = {
        key: value for key, value in _usual(n).items() if key not in ("num_attention_heads", "intermediate_size")
    }
    return transformers.MambaModel(transformers.MambaConfig(**sizes, state_size=4, time_step_rank=4))


def _xlnet(n: int) -> PreTrainedModel:
    return transformers.XLNetModel(
        transformers.XLNetConfig(vocab_size=n, d_model=HIDDEN_SIZE, n_layer=N_BLOCKS, n_head=N_HEADS, d_inner=64)
    )


def _lists(n: int) -> _Sizes:
    return {
        "n_words": n, "emb_dim": HIDDEN_SIZE, "n_layers": N_BLOCKS, "n_heads": N_HEADS, "pad_index": 0,
        "max_position_embeddings": MAX_TOKENS,
    }  # fmt: skip


_BUILDERS: dict[str, tuple[str, Callable[[int], PreTrainedModel]]] = {
    "gemma3": ("llama", _gemma3),
    "llava": ("llama", _llava),
    "qwen2_5_vl": ("llama", _qwen2_5_vl),
    "smolvlm": ("llama", _smolvlm),
    "paligemma": ("llama", _paligemma),
    "clip": ("llama", _clip),
    "qwen3_moe": ("llama", lambda n: transformers.Qwen3MoeForCausalLM(
        transformers.Qwen3MoeConfig(**_experts(n, num_experts=4, decoder_sparse_step=1)))),
    "mixtral": ("llama", lambda n: transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**_decoder(n), num_local_experts=4, num_experts_per_tok=2))),
    "olmoe": ("llama", lambda n: transformers.OlmoeForCausalLM(
        transformers.OlmoeConfig(**_usual(n), num_experts=4, num_experts_per_tok=2))),
    "deepseek_v3": ("llama", _deepseek_v3),
    "gpt_oss": ("llama", lambda n: transformers.GptOssForCausalLM(
        transformers.GptOssConfig(**_decoder(n), num_local_experts=4, num_experts_per_tok=2, sliding_window=16))),
    "mamba": ("llama", _mamba),
    "xlnet": ("bert", _xlnet),
    "fnet": ("bert", lambda n: transformers.FNetModel(transformers.FNetConfig(**_usual(n)))),
    "convbert": ("bert", lambda n: transformers.ConvBertModel(
        transformers.ConvBertConfig(**_usual(n), embedding_size=HIDDEN_SIZE))),
    "xlm": ("bert", lambda n: transformers.XLMModel(transformers.XLMConfig(**_lists(n)))),
    "flaubert": ("bert", lambda n: transformers.FlaubertModel(transformers.FlaubertConfig(**_lists(n)))),
    "albert": ("bert", lambda n: transformers.AlbertModel(
        transformers.AlbertConfig(**_usual(n), embedding_size=16))),
    "opt": ("gpt2", lambda n: transformers.OPTModel(transformers.OPTConfig(
        **_usual(n), ffn_dim=64, word_embed_proj_dim=16, do_layer_norm_before=False))),
    "luke": ("bert", lambda n: transformers.LukeModel(
        transformers.LukeConfig(**_usual(n), entity_vocab_size=8, entity_emb_size=16))),
}  # fmt: skip

TOWERS = ("gemma3", "llava", "qwen2_5_vl", "smolvlm", "paligemma", "clip")
"""A language stack beside one for images."""
EXPERTS = ("qwen3_moe", "mixtral", "olmoe", "deepseek_v3", "gpt_oss")
"""Blocks whose experts are 3-D parameters."""
FAMILIES = tuple(_BUILDERS)


def build_family(family: str, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The family's model in eval mode, and a tokenizer; equal seeds, equal weights."""
    kind, builder = _BUILDERS[family]
    tokenizer = _train_tokenizer(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = builder(len(tokenizer) + 1)
    return model.eval(), tokenizer


def mark_slow(*names: str, fast: Collection[str]) -> list[Any]:
    """The families as parameters of a test, those that are not fast marked as slow."""
    return [pytest.param(name, marks=[] if name in fast else [pytest.mark.slow]) for name in names]
