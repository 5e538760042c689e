"""A linear layer with GenLoRA adapters: factors generated once per forward pass, merged like any low-rank update."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from peft.utils import quantization_extra_repr, resolve_quantization_backend
from torch import nn
from transformers.pytorch_utils import Conv1D

from gelora_viz.adapters.genlora.config import GenLoraConfig
from gelora_viz.adapters.genlora.generator import generate_factor, grid, initial_raw_width, initial_weight_scale
from gelora_viz.errors import InputError


class GenLoraLayer(BaseTunerLayer):
    """The parameters of any number of GenLoRA adapters on one layer.

    Each `genlora_...` dictionary holds one parameter per adapter: latents (in,) and (out,); weights, centers and
    widths (r, num_groups, num_rbfs) for the factors A and B. Adapters on the fixed grid have no centers or widths.
    """

    adapter_layer_names = (
        "genlora_latent_A", "genlora_latent_B", "genlora_weights_A", "genlora_weights_B",
        "genlora_centers_A", "genlora_centers_B", "genlora_widths_A", "genlora_widths_B",
    )  # fmt: skip
    other_param_names = ("r", "alpha", "scaling", "genlora_dropout")

    def __init__(self, base_layer: nn.Module, **kwargs: Any) -> None:  # noqa: ANN401 - PEFT's
        self.base_layer = base_layer
        self.r: dict[str, int] = {}
        self.alpha: dict[str, float] = {}
        self.scaling: dict[str, float] = {}
        self.genlora_dropout = nn.ModuleDict()
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ParameterDict())
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self.frozen_peft_weight_names: dict[str, tuple[str, ...]] = {}
        self.quantization_backend = resolve_quantization_backend(
            self.get_base_layer(), get_apply_tensor_subclass=kwargs.get("get_apply_tensor_subclass")
        )
        self.in_features, self.out_features = _features(self.get_base_layer())

    def update_layer(self, adapter_name: str, r: int, alpha: float | None, config: GenLoraConfig) -> None:
        """Add fresh parameters for an adapter, or replace those it had.

        Raises:
            InputError: if r exceeds min(in, out), or there are more groups than coordinates.
        """
        smallest = min(self.in_features, self.out_features)
        for what, value in (("r", r), ("num_groups", config.num_groups)):
            if value > smallest:
                raise InputError(
                    f"{what} = {value} exceeds min(in, out) = {smallest} of a {self.in_features} x "
                    f"{self.out_features} matrix; lower it{', or use rank_pattern' if what == 'r' else ''}"
                )
        self.r[adapter_name] = r
        self.scaling[adapter_name] = config.scale(r, alpha)
        self.alpha[adapter_name] = self.scaling[adapter_name] * r
        self.genlora_dropout[adapter_name] = nn.Dropout(config.dropout) if config.dropout > 0 else nn.Identity()
        shape = (r, config.num_groups, config.num_rbfs)
        for factor, n_coordinates in (("A", self.in_features), ("B", self.out_features)):
            self._parameters_of("latent", factor)[adapter_name] = nn.Parameter(torch.empty(n_coordinates))
            self._parameters_of("weights", factor)[adapter_name] = nn.Parameter(torch.empty(shape))
            for kind, has_own in (("centers", config.train_centers), ("widths", config.train_widths)):
                parameters = self._parameters_of(kind, factor)
                if has_own:
                    parameters[adapter_name] = nn.Parameter(torch.empty(shape))
                elif adapter_name in parameters:
                    del parameters[adapter_name]
        self._initialize(adapter_name, starts_at_zero=config.init_weights)
        frozen = [
            f"genlora_{kind}_{factor}"
            for kind, trains in (("latent", config.train_latent), ("weights", config.train_weights))
            for factor in "AB"
            if not trains
        ]
        self.frozen_peft_weight_names[adapter_name] = tuple(frozen)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @torch.no_grad()
    def _initialize(self, adapter_name: str, *, starts_at_zero: bool) -> None:
        """Latents N(0, 1), centers on the grid, and weights that give A the variance of a fresh LoRA's."""
        for factor in "AB":
            latent = self._parameters_of("latent", factor)[adapter_name].normal_()
            weights = self._parameters_of("weights", factor)[adapter_name]
            n_rbfs = weights.shape[-1]
            if factor == "B" and starts_at_zero:
                weights.zero_()
            else:
                weights.normal_().mul_(initial_weight_scale(latent, n_rbfs))
            if adapter_name in self._parameters_of("centers", factor):
                centers = self._parameters_of("centers", factor)[adapter_name]
                centers.copy_(grid(n_rbfs, centers.device)[0].expand_as(centers))
            if adapter_name in self._parameters_of("widths", factor):
                self._parameters_of("widths", factor)[adapter_name].fill_(initial_raw_width(n_rbfs))

    def _parameters_of(self, kind: str, factor: str) -> nn.ParameterDict:
        """The dictionary of one kind of parameter, "latent", "weights", "centers" or "widths", of factor A or B."""
        parameters: nn.ParameterDict = getattr(self, f"genlora_{kind}_{factor}")
        return parameters

    def factors(self, adapter_name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """A (r, in) and B (out, r) as generated, in float32; the update is scaling x B A."""
        generated = []
        for factor in "AB":
            latent, weights, centers, widths = (
                self._parameters_of(kind, factor).get(adapter_name)
                for kind in ("latent", "weights", "centers", "widths")
            )
            generated.append(generate_factor(latent, weights, centers, widths))
        a, b = generated
        return a, b.T

    def has_adapter(self, adapter_name: str) -> bool:
        """Whether this layer carries the adapter."""
        return adapter_name in self._parameters_of("latent", "A")

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        """The update in the shape of the layer's weight, in the weight's type, or float32 if that is quantized."""
        a, b = self.factors(adapter)
        delta = self.scaling[adapter] * (b @ a)
        if isinstance(self.get_base_layer(), Conv1D):
            delta = delta.T
        weight = getattr(self.get_base_layer(), "weight", None)
        keeps = self.quantization_backend is None and weight is not None and weight.is_floating_point()
        return delta.to(weight.dtype) if keeps and weight is not None else delta

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 - PEFT's signature
        """True: the update is added to the weight."""
        return True


class GenLoraLinear(nn.Module, GenLoraLayer):
    """GenLoRA on `nn.Linear`, transformers' `Conv1D`, or a quantized linear layer that PEFT knows."""

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        config: GenLoraConfig,
        r: int,
        alpha: float | None = None,
        **kwargs: Any,  # noqa: ANN401 - PEFT's
    ) -> None:
        super().__init__()
        GenLoraLayer.__init__(self, base_layer, **kwargs)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, r, alpha, config)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add updates to the layer's weight.

        Args:
            safe_merge: check the sum before it replaces the weight.
            adapter_names: names of the adapters to merge; by default the active ones.

        Raises:
            ValueError: if a safe merge finds NaN or infinite values; nothing is changed then.
            TypeError: if the layer's quantization cannot be undone.
            InputError: if bitsandbytes has packed 4-bit weights for the CPU, from which they cannot be read back.
        """
        names = [name for name in check_adapters_to_merge(self, adapter_names) or [] if self.has_adapter(name)]
        if names:
            self._check_not_packed()
        for name in names:
            weight = self.get_base_weight()
            merged = weight + self.get_delta_weight(name).detach().to(weight.dtype)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"merging adapter {name!r} gives NaN or infinite weights; it seems to be broken")
            self.set_base_weight(merged)
            self.merged_adapters.append(name)

    def _check_not_packed(self) -> None:
        """Refuse weights that bitsandbytes reordered in an evaluation pass on the CPU; PEFT misreads them."""
        state = getattr(getattr(self.get_base_layer(), "weight", None), "quant_state", None)
        if getattr(state, "packing_format_for_cpu", False):
            raise InputError(
                "bitsandbytes has packed these 4-bit weights for the CPU in an evaluation pass, and merging would "
                "corrupt them; load the model and its adapter again and merge before the first pass, or on a GPU"
            )

    def unmerge(self) -> None:
        """Take merged updates out of the layer's weight again; exact up to rounding in the weight's type."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        while self.merged_adapters:
            name = self.merged_adapters.pop()
            if self.has_adapter(name):
                weight = self.get_base_weight()
                self.set_base_weight(weight - self.get_delta_weight(name).detach().to(weight.dtype))

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401 - the layer's own
        """The layer's output (..., out) for inputs (..., in), with the updates of all active adapters."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters or self.merged:
            return result
        dtype = result.dtype
        if self.quantization_backend is not None:
            result = self.quantization_backend.maybe_clone_base_result(result)
        for name in self.active_adapters:
            if self.has_adapter(name):
                a, b = (factor.to(x.dtype) for factor in self.factors(name))
                hidden = nn.functional.linear(self.genlora_dropout[name](x), a)
                result = result + self.scaling[name] * nn.functional.linear(hidden, b)
        return result.to(dtype)

    def __repr__(self) -> str:
        return f"genlora.{super().__repr__()}"

    def extra_repr(self) -> str:
        """Names the quantization, where there is one."""
        text: str = quantization_extra_repr(self)
        return text


def _features(layer: Any) -> tuple[int, int]:  # noqa: ANN401 - a linear layer of any library
    """(in_features, out_features) of any layer that the method takes."""
    if isinstance(layer, Conv1D):
        inputs, outputs = layer.weight.shape
        return int(inputs), int(outputs)
    return int(layer.in_features), int(layer.out_features)
