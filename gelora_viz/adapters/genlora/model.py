"""Put GenLoRA layers into a model, as PEFT's tuners do."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import (
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
    get_quantization_kwargs,
    resolve_quantization_backend,
)
from peft.utils.other import get_pattern_key
from torch import nn
from transformers.pytorch_utils import Conv1D

from gelora_viz.adapters.genlora.layer import GenLoraLayer, GenLoraLinear
from gelora_viz.errors import InputError


class GenLoraModel(BaseTuner):
    """A model whose target modules are wrapped by `GenLoraLinear`; made by `peft.get_peft_model`.

    Args:
        model: the model to adapt; changed in place.
        config: the `GenLoraConfig`.
        adapter_name: name of the first adapter.
    """

    prefix = "genlora_"
    tuner_layer_cls = GenLoraLayer
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING  # type: ignore[assignment]

    def _create_and_replace(
        self,
        peft_config: Any,  # noqa: ANN401 - a GenLoraConfig; PEFT's base class says PeftConfig
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
        **_: Any,  # noqa: ANN401 - PEFT's
    ) -> None:
        """Wrap one target module, or give an already wrapped one a further adapter."""
        del parameter_name  # for methods that adapt bare parameters
        ranks, alphas = peft_config.rank_pattern or {}, peft_config.alpha_pattern or {}
        r = ranks.get(get_pattern_key(list(ranks), current_key), peft_config.r)
        alpha = alphas.get(get_pattern_key(list(alphas), current_key))
        if isinstance(target, GenLoraLayer):
            target.update_layer(adapter_name, r, alpha, peft_config)
            return
        base = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        backend = resolve_quantization_backend(base, **get_quantization_kwargs(self.model))
        is_quantized_linear = backend is not None and backend.layer_type == "linear"
        if not (isinstance(base, nn.Linear | Conv1D) or is_quantized_linear):
            raise InputError(
                f"GenLoRA cannot adapt {current_key}, a {type(base).__name__}; it takes nn.Linear, transformers' "
                "Conv1D and quantized linear layers: leave it out of target_modules, or name it in exclude_modules"
            )
        layer = GenLoraLinear(target, adapter_name, peft_config, r, alpha, **get_quantization_kwargs(self.model))
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(requires_grad=False)  # a further adapter does not train until it is chosen
        self._replace_module(parent, target_name, layer, target)
