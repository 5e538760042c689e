"""What a fine-tuning is: everything that decides its numbers, in one frozen object that is also a JSON file."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftConfig

from gelora_viz._checks import check_seed
from gelora_viz._results import read_json, write_json
from gelora_viz.adapters import config_from_dict
from gelora_viz.errors import InputError
from gelora_viz.ranks import RankPlan

_KIND = "run specification"
FROZEN = "frozen"


@dataclass(frozen=True, eq=False)
class RunSpec:
    """One short fine-tuning of a text classifier.

    Attributes:
        name: of the run, in tables and as its folder; letters, digits, dot, dash and underscore.
        adapter: a RankPlan; a PEFT configuration of a method that changes weight matrices; or "frozen", which trains
            the linear head alone, the probe that every adapter has to beat.
        model: what `load_model` takes: a name, a folder or a Hub id.
        data: what `load_texts` takes as text: a name, a file or a Hub id. It needs labels.
        text_column: of the data, by default as in `load_texts`.
        label_column: of the data, by default as in `load_texts`.
        max_texts: training texts at most; None takes all.
        pooling: of the last hidden state under the linear head: "mean", "last" or "cls".
        steps: optimiser steps.
        batch_size: texts a step.
        learning_rate: of the adapter; 2e-3 was best for LoRA r = 4 in a first trial on the embedded task, and the
            right one differs between methods, so sweep it before you compare methods.
        head_learning_rate: of the linear head.
        max_length: tokens kept of each text; by default the model's longest input, 512 at most.
        evaluations: how often the validation texts are scored, evenly over the run.
        seed: of initial weights, dropout and the order of the data, which is the same for every adapter.
        data_seed: of the splits and choices in the data; the same for runs that are to be compared.
        threads: CPU threads; None takes what the machine offers.
        trust_remote_code: as in `load_model`.
    """

    name: str
    adapter: RankPlan | PeftConfig | str
    model: str = "minilm"
    data: str = "icd10cm"
    text_column: str | None = None
    label_column: str | None = None
    max_texts: int | None = None
    pooling: str = "mean"
    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 2e-3
    head_learning_rate: float = 5e-3
    max_length: int | None = None
    evaluations: int = 4
    seed: int = 0
    data_seed: int = 0
    threads: int | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", str(self.name)):
            raise InputError(
                f"run name {self.name!r} must be letters, digits, dots, dashes and underscores (100 at most)"
            )
        if not isinstance(self.adapter, RankPlan | PeftConfig) and self.adapter != FROZEN:
            raise InputError(f'adapter is {self.adapter!r}; give a RankPlan, a PEFT configuration or "frozen"')
        if self.pooling not in ("mean", "last", "cls"):
            raise InputError(f"unknown pooling {self.pooling!r} for the head; choose mean, last or cls")
        check_seed(self.seed)
        check_seed(self.data_seed)
        for name in ("steps", "batch_size", "evaluations", "threads", "max_texts", "max_length"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "head_learning_rate"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")

    @property
    def method(self) -> str:
        """In a word: "frozen", the plan's strategy, or the PEFT method."""
        if isinstance(self.adapter, RankPlan):
            return f"LoRA, {self.adapter.strategy}"
        if isinstance(self.adapter, PeftConfig):
            return str(self.adapter.peft_type).rpartition(".")[2]
        return self.adapter

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content, which `from_dict` reads."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if isinstance(self.adapter, RankPlan):
            content["adapter"] = {"plan": self.adapter.to_dict()}
        elif isinstance(self.adapter, PeftConfig):
            content["adapter"] = {"peft": self.adapter.to_dict()}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunSpec:
        """The inverse of `to_dict`."""
        known = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in content.items() if name in known}
        match values.get("adapter"):
            case {"plan": plan}:
                values["adapter"] = RankPlan.from_dict(plan)
            case {"peft": config}:
                values["adapter"] = config_from_dict(config)
        return cls(**values)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(path, _KIND, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunSpec:
        """Read what `save` wrote; raises `StudyError` where it is missing or of another version."""
        return cls.from_dict(read_json(path, _KIND))
