"""A linear head on a transformer's pooled last hidden state: the classifier that every run trains."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from gelora_viz.activations import Pooling, pool_texts


class TextClassifier(nn.Module):
    """Backbone (with its adapter, if any), pooling, linear head.

    The head sits outside the backbone, so that the adapter is saved for the plain model under the names that its
    profile and plan use. An encoder-decoder is read at its decoder's end.

    Args:
        backbone: a transformer without task head, or a PEFT model around one.
        n_classes: outputs of the head.
        pooling: "mean", "last" or "cls".
    """

    accepts_loss_kwargs = False
    """Trainer would pass the number of labels to any module that takes extra keywords; the backbone ignores it."""

    def __init__(self, backbone: nn.Module, n_classes: int, pooling: str = "mean") -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = cast("Pooling", pooling)
        config: Any = backbone.config
        width = getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or config.n_embd
        self.head = nn.Linear(width, n_classes)
        self.is_frozen = not any(parameter.requires_grad for parameter in backbone.parameters())

    def train(self, mode: bool = True) -> TextClassifier:
        """As in torch, but a frozen backbone stays in evaluation mode: its features are fixed, without dropout."""
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor | None = None,
        **decoder_inputs: torch.Tensor,
    ) -> SequenceClassifierOutput:
        """Class scores (n_texts, n_classes), and the cross-entropy where labels (n_texts,) are given."""
        logits = self.head(self.features(input_ids, attention_mask, **decoder_inputs).to(self.head.weight.dtype))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def features(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **decoder_inputs: torch.Tensor
    ) -> torch.Tensor:
        """What the head reads: pooled last hidden states (n_texts, n_features)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **decoder_inputs)
        mask = decoder_inputs.get("decoder_attention_mask", attention_mask)
        return pool_texts(output.last_hidden_state, mask, self.pooling)
