"""What a capture's points depend on, as a small mapping: equal mappings, equal points."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from gelora_viz._cache import cache_folder
from gelora_viz.activations.holding import hold
from gelora_viz.activations.images import is_image_processor
from gelora_viz.activations.layers import Layer
from gelora_viz.activations.offload import input_device, named_weights
from gelora_viz.activations.pooling import name_of_pooling
from gelora_viz.errors import InputError

_METHOD = 2
"""Raised when this package computes points differently."""
_WHERE_FROM = {"_name_or_path", "name_or_path", "transformers_version", "base_model_name_or_path", "inference_mode"}
"""Settings of a model that say where it comes from, not what it computes."""


def describe_capture(
    model: nn.Module, transformer: nn.Module, processor: object, data: Sequence[Any], layers: Sequence[Layer],
    options: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Everything the points depend on.

    All weights and buffers are read, at the speed of memory: 100 MB take about 0.1 s. The version of transformers is
    part of it, because a release may change how a model computes, and old points beside new ones would be a mistake
    that nobody sees. The batch size and the device are not: they move points by rounding only.

    Of what a module computes, its config, its weights and the epsilon of its norms are seen. Other attributes changed
    in place apart from the config, such as a block's own scale, and a method replaced on an instance are not.

    Args:
        model: the model that is called, with its adapters.
        transformer: the transformer inside it whose modules are hooked.
        processor: the tokenizer or image processor.
        data: texts or images.
        layers: the layers to capture.
        options: further arguments that change the points, by name; JSON-able.
    """
    images = is_image_processor(processor)
    return {
        "model": _digest_json(
            [type(transformer).__name__, _config(getattr(transformer, "config", None)), _epsilons(transformer)]
        ),
        "weights": _digest_weights(model),
        "adapters": _digest_json(_adapters(model)),
        "images" if images else "texts": _digest(map(_image_bytes, data) if images else map(_text_bytes, data)),
        "image processor" if images else "tokenizer": _digest_processor(processor),
        "layers": [f"{layer.name} <- {layer.module}:{layer.side}" for layer in layers],
        "autocast": _autocast(model),
        **options,
        "transformers": transformers.__version__,
        "method": _METHOD,
    }


def check_repeatable(pooling: object, name: str | None, folder: Path) -> None:
    """Raise `InputError` where nobody can tell whether a pooling is the one whose points `folder` holds."""
    if not isinstance(pooling, str) and name is None:
        raise InputError(
            f"{folder} holds a capture, and whether this pooling function made it cannot be told; name the function "
            'from the first capture on, as in pooling_name="mean of the first half", or give a new folder as store'
        )


def folder_in_cache(cache: bool | str | os.PathLike[str], identity: Mapping[str, Any]) -> Path:
    """The folder of this capture in the cache: its name is a digest of the identity."""
    root = cache_folder("activations") if cache is True else Path(os.fspath(cache)).expanduser()  # type: ignore[arg-type]
    return root / _digest_json(identity)


def check_cacheable(model: nn.Module, pooling: object) -> None:
    """Raise `InputError` where equal identities would not mean equal points."""
    if not isinstance(pooling, str):
        raise InputError(
            f"pooling is the function {name_of_pooling(pooling, None)}, and a cache cannot tell whether it has "
            'changed; use store= with a folder of your own, or "mean", "last", "cls" or "tokens"'
        )
    libraries = ("transformers.", "accelerate.", "peft.", "torch.")
    for name, module in model.named_modules():
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values()):  # noqa: SLF001 - no public list
            if not str(getattr(hook, "__module__", "")).startswith(libraries):
                raise InputError(
                    f"module {name!r} has a forward hook of yours, and a cache cannot tell what it changes; "
                    "remove it, or capture without cache"
                )


def _digest(pieces: Iterable[bytes]) -> str:
    """Digest of pieces and of where each ends. BLAKE2b needs no special processor instructions to be fast."""
    whole = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        whole.update(len(piece).to_bytes(8, "little"))
        whole.update(piece)
    return whole.hexdigest()


def _digest_json(content: object) -> str:
    return _digest([json.dumps(content, sort_keys=True, default=_plain).encode()])


def _plain(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return str(value)


def _digest_weights(model: nn.Module) -> str:
    whole = hashlib.blake2b(digest_size=16)
    for name, tensor in named_weights(model):
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        whole.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return whole.hexdigest()


def _config(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """A configuration without where it came from."""
    content = config.to_dict() if hasattr(config, "to_dict") else {}
    return {name: value for name, value in content.items() if name not in _WHERE_FROM}


def _epsilons(transformer: nn.Module) -> dict[str, object]:
    """What norms add to the variance: held by each norm itself, where it can be changed without the config."""
    return {
        f"{name}.{attribute}": vars(module)[attribute]
        for name, module in transformer.named_modules()
        for attribute in ("eps", "variance_epsilon")
        if attribute in vars(module)
    }


def _autocast(model: nn.Module) -> str | None:
    """The type that torch.autocast computes in where the model is; None where it is off."""
    device = input_device(model).type
    return str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None


def _adapters(model: nn.Module) -> list[Any]:
    """Settings of PEFT adapters, and for each adapted module which are active, merged or scaled."""
    configs = getattr(model, "peft_config", None)
    found: list[Any] = [{name: _config(each) for name, each in configs.items()}] if isinstance(configs, dict) else []
    for name, module in model.named_modules():
        if (
            hasattr(module, "active_adapters")
            and hasattr(module, "disable_adapters")
            and hasattr(module, "merged_adapters")
        ):
            state = [module.active_adapters, module.disable_adapters, module.merged_adapters]
            found.append([name, *state, getattr(module, "scaling", None)])
    return found


def _digest_processor(processor: Any) -> str:  # noqa: ANN401
    """Digest of a tokenizer's rules and vocabulary, or of an image processor's settings.

    A tokenizer in Python has no rules to read: of it, the vocabulary and the settings that it was made with are seen.
    """
    if is_image_processor(processor):
        return _digest_json([type(processor).__name__, _config(processor)])
    backend: Any = getattr(processor, "backend_tokenizer", None)
    if hasattr(backend, "to_str"):
        with hold(processor):
            rules = backend.to_str()
        # Before its tokens stands what the last call set for truncation and padding; every call of ours sets it anew.
        rules = rules[max(0, rules.find('"added_tokens"')) :]
    else:
        made_with = {
            name: value
            for name, value in getattr(processor, "init_kwargs", {}).items()
            if name not in _WHERE_FROM | {"padding_side"} and not name.endswith("_file")
        }
        rules = json.dumps([processor.get_vocab(), made_with], sort_keys=True, default=_plain)
    own = [
        type(processor).__name__, processor.special_tokens_map, processor.model_max_length, processor.truncation_side,
    ]  # fmt: skip
    return _digest([rules.encode(), json.dumps(own, sort_keys=True, default=_plain).encode()])


def _text_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _image_bytes(image: object) -> bytes:
    array = np.ascontiguousarray(np.asarray(image))
    return f"{array.dtype} {array.shape};".encode() + array.tobytes()
