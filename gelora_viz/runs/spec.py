"""The specification of a fine-tuning: everything that decides its numbers, in a frozen object stored as JSON."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from peft import AdaLoraConfig, LoraConfig, PeftConfig

from gelora_viz._checks import describe
from gelora_viz._reading import Fields
from gelora_viz._results import file_digest, read_result, write_json
from gelora_viz.adapters import config_from_dict
from gelora_viz.errors import InputError, StudyError
from gelora_viz.ranks import RankPlan
from gelora_viz.runs.fields import CAUSAL_LM, CLASSIFICATION, FROZEN, FULL, check_fields

_TASK_TYPES = {CLASSIFICATION: "FEATURE_EXTRACTION", CAUSAL_LM: "CAUSAL_LM"}
"""Task -> the one task_type that a PEFT configuration may have for it, besides None."""
_CONSENT = "trust_remote_code"
_KIND = "run specification"
_DOCUMENT = {"kind", "schema_version", "gelora_viz"}
"""Fields that describe the JSON file itself."""
_LEARNING_RATES = {
    (CLASSIFICATION, False): 2e-3, (CLASSIFICATION, True): 1e-4, (CAUSAL_LM, False): 5e-4, (CAUSAL_LM, True): 2e-5,
}  # fmt: skip
"""(Task, whether all weights train) -> learning rate."""


def usual_learning_rate(task: str, *, full: bool = False) -> float:
    """The default learning rate of this task, for an adapter or, with `full`, for all weights."""
    return _LEARNING_RATES.get((task, full), 2e-3)


@dataclass(frozen=True, eq=False)
class RunSpec:
    """One short fine-tuning, of a text classifier or of a causal language model.

    Attributes:
        name: the run's name, in tables and as its folder; letters, digits, dot, dash and underscore.
        adapter: a RankPlan; a PEFT configuration of a method that changes weight matrices; "full", which trains all
            weights; or "frozen", which trains none: for a classifier only the linear head, the probe that every
            adapter has to beat, and for a language model nothing. A plan made for a model without
            task head serves that model's language model too. LoRA with init_lora_weights="eva" starts from
            directions of training texts; with EvaConfig(rho=1) its ranks stay as they are, so a plan can be trained
            this way: plan.to_peft_config(init_lora_weights="eva", eva_config=EvaConfig(rho=1)). AdaLoRA's
            total_step is at most `steps`.
        model: what `load_model` takes: a name, a folder or a Hub id.
        data: what `load_texts` takes as text: a name, a file or a Hub id. A classifier needs labels.
        text_column: the data's column of texts; None guesses it (see `load_texts`).
        label_column: the data's column of labels; None guesses it (see `load_texts`).
        max_texts: most training texts to use; None uses all.
        pooling: how the last hidden state is pooled under the linear head: "mean", "last" or "cls".
        steps: number of optimizer steps.
        batch_size: texts in an optimizer step, in however many micro-batches they are read.
        learning_rate: learning rate of the adapter, or of all weights. None means 2e-3 for a classifier's adapter,
            which was best for LoRA r = 4 in a first trial on the embedded task, 5e-4 for a language model's, and
            1e-4 and 2e-5 if all weights train. The right one differs between methods, so sweep it before you
            compare methods.
        head_learning_rate: learning rate of the linear head.
        max_length: tokens kept of each text; by default the model's longest input, 512 at most.
        evaluations: how often the validation texts are scored, evenly spaced over the run.
        seed: seed of initial weights, dropout and the order of the data, which is the same for every adapter.
        data_seed: seed of the splits and choices in the data; the same for runs that are to be compared.
        threads: CPU threads; None uses what the machine offers.
        trust_remote_code: run Python code that comes with the model (see `load_model`). It is never written to a
            file nor read from one, since a run's folder may be somebody else's.
        task: "classification", with a linear head on the pooled last hidden state, or "causal-lm", which predicts
            each token of a text from those before it.
        schedule: how the learning rates change over the steps: "linear", "cosine", "cosine_with_restarts",
            "polynomial", "constant", "constant_with_warmup" or "inverse_sqrt", as in transformers.
        warmup: share of the steps over which learning rates rise first; "constant" has none.
        precision: "float32", "bfloat16" or, on a GPU, "float16": what matrices are multiplied in; weights stay
            float32. None means bfloat16 on a GPU that supports it, otherwise float32.
        gradient_accumulation: micro-batches in which the texts of a step are read one after another, to save memory;
            must divide `batch_size`.
        gradient_checkpointing: recompute hidden states for the gradient instead of keeping them.
        spectra_every: steps between records of the updates' spectra in spectra.json; None records none.
        plus_ratio: LoRA+'s learning rate of B over that of A (Hayou et al. 2024, who take 16); None: the same.

    Raises:
        InputError: for a value, or a combination of values, that no run could use.
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
    learning_rate: float = cast("float", None)  # a number by the time anyone reads it
    head_learning_rate: float = 5e-3
    max_length: int | None = None
    evaluations: int = 4
    seed: int = 0
    data_seed: int = 0
    threads: int | None = None
    trust_remote_code: bool = False
    task: str = CLASSIFICATION
    schedule: str = "linear"
    warmup: float = 0.06
    precision: str | None = None
    gradient_accumulation: int = 1
    gradient_checkpointing: bool = False
    spectra_every: int | None = None
    plus_ratio: float | None = None

    def __post_init__(self) -> None:
        for name in ("model", "data"):
            if isinstance(getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(getattr(self, name)))
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if fields["learning_rate"] is None:
            del fields["learning_rate"]
        check_fields(fields)
        if "learning_rate" not in fields:
            rate = usual_learning_rate(self.task, full=isinstance(self.adapter, str) and self.adapter == FULL)
            object.__setattr__(self, "learning_rate", rate)
        _check_adapter(self)

    @property
    def method(self) -> str:
        """The method's short name: "frozen", "full", the plan's strategy, or the PEFT method and its variants."""
        plus = "" if self.plus_ratio is None else "+"
        if isinstance(self.adapter, RankPlan):
            return f"LoRA{plus}, {self.adapter.strategy}"
        if isinstance(self.adapter, PeftConfig):
            method = str(self.adapter.peft_type).rpartition(".")[2]
            is_lora = isinstance(self.adapter, LoraConfig) and method == "LORA"  # AdaLoRA's class derives from it
            return f"LORA{plus}{_variants(self.adapter)}" if is_lora else method
        return self.adapter

    @property
    def micro_batch_size(self) -> int:
        """Texts read at a time."""
        return self.batch_size // self.gradient_accumulation

    @property
    def data_digest(self) -> str:
        """Identifies the data: the content's digest for a file, wherever it is, otherwise the name."""
        return file_digest(self.data) if Path(self.data).is_file() else str(self.data)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content, which `from_dict` reads."""
        content = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del content[_CONSENT]
        if isinstance(self.adapter, RankPlan):
            content["adapter"] = {"plan": self.adapter.to_dict()}
        elif isinstance(self.adapter, PeftConfig):
            content["adapter"] = {"peft": self.adapter.to_dict()}
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunSpec:
        """The inverse of `to_dict`; raises `StudyError` for fields that a newer version added."""
        values = {name: value for name, value in content.items() if name not in _DOCUMENT}
        if _CONSENT in values:
            raise StudyError(
                f"the run specification has {_CONSENT}, and consent to run a model's code is not read from files; "
                f"remove it there and give {_CONSENT}=True where you launch the run"
            )
        unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise StudyError(
                f"the run specification has {', '.join(unknown)}, which this version does not know; install the "
                f"gelora_viz that wrote it ({content.get('gelora_viz', 'a newer one')})"
            )
        match values.get("adapter"):
            case {"plan": plan}:
                values["adapter"] = RankPlan.from_dict(plan)
            case {"peft": config}:
                values["adapter"] = config_from_dict(config)
        lacking = sorted({"name", "adapter"} - values.keys())
        if lacking:
            raise StudyError(f"the run specification lacks {', '.join(lacking)}; give one that gelora_viz has saved")
        for name in {"model", "data"} & values.keys():
            Fields(values, _KIND).text(name)
        return cls(**values)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as JSON."""
        return write_json(path, _KIND, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunSpec:
        """Read what `save` wrote; raises `StudyError` if it is missing or from another version."""
        return read_result(path, _KIND, cls.from_dict)


def _variants(config: Any) -> str:  # noqa: ANN401 - a LoraConfig
    """What a LoRA configuration is called beyond LoRA."""
    start = config.init_lora_weights
    names = {"DoRA": config.use_dora, "rsLoRA": config.use_rslora, str(start).upper(): isinstance(start, str)}
    return "".join(f", {name}" for name, holds in names.items() if holds)


def _check_adapter(spec: RunSpec) -> None:
    adapter = spec.adapter
    is_word = isinstance(adapter, str) and adapter in (FROZEN, FULL)
    if not is_word and not isinstance(adapter, RankPlan | PeftConfig):
        raise InputError(f'adapter is {describe(adapter)}; give a RankPlan, a PEFT configuration, "full" or "frozen"')
    if isinstance(adapter, PeftConfig):
        _check_config(adapter, spec)
    if isinstance(adapter, str) and spec.spectra_every is not None:
        raise InputError(
            f"spectra_every is {spec.spectra_every}, but adapter {adapter!r} has no updates to measure; leave it out"
        )
    has_factors = isinstance(adapter, RankPlan) or (isinstance(adapter, LoraConfig) and _is_lora(adapter))
    if spec.plus_ratio is not None and not has_factors:
        raise InputError(
            f"plus_ratio is {spec.plus_ratio}, but {spec.method} has no factors A and B of LoRA; leave it out, or "
            "give a plan or a LoraConfig"
        )


def _check_config(config: PeftConfig, spec: RunSpec) -> None:
    task_type = None if config.task_type is None else str(config.task_type).rpartition(".")[2]
    if task_type not in (None, _TASK_TYPES[spec.task]):
        raise InputError(
            f"the PEFT configuration has task_type {task_type!r}, which wraps another model than task {spec.task!r} "
            "trains; leave task_type out"
        )
    if config.is_prompt_learning:
        raise InputError(f"{spec.method} learns a prompt and changes no weight matrix; give a method that does")
    if isinstance(config, AdaLoraConfig):
        _check_adalora(config, spec.steps)


def _check_adalora(config: AdaLoraConfig, steps: int) -> None:
    total = steps if config.total_step is None else config.total_step
    if total > steps:
        raise InputError(
            f"AdaLoRA's total_step is {total}, but the run has {steps} steps and would never reach its target_r; set "
            f"total_step={steps}"
        )
    if config.init_r <= config.target_r:
        raise InputError(
            f"AdaLoRA's init_r is {config.init_r} and its target_r {config.target_r}; it gives ranks up, so init_r "
            "must be larger"
        )
    if total - config.tfinal - config.tinit < 2:
        raise InputError(
            f"AdaLoRA has total_step {total}, tinit {config.tinit} and tfinal {config.tfinal}, which leaves no steps "
            "to give ranks up in; lower tinit and tfinal"
        )


def _is_lora(config: LoraConfig) -> bool:
    """Whether it is LoRA or a variant with its factors, and not AdaLoRA, whose class derives from LoRA's."""
    return str(config.peft_type).rpartition(".")[2] == "LORA"
