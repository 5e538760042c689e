"""Train one classifier with the Hugging Face Trainer, log to the run's folder, and measure what came out."""

from __future__ import annotations

import logging
import math
import platform
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from peft import PeftModel
from peft import __version__ as peft_version
from safetensors.torch import save_file
from sklearn.metrics import f1_score
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainingArguments, get_scheduler, set_seed

from gelora_viz._version import __version__
from gelora_viz.activations import collate, tokenize
from gelora_viz.activations.inputs import TokenizedText
from gelora_viz.adapters import add_adapter
from gelora_viz.errors import InputError, RunError
from gelora_viz.finetuning.classifier import TextClassifier
from gelora_viz.finetuning.folder import RunFolder
from gelora_viz.finetuning.spec import RunSpec
from gelora_viz.sources import TextData, load_model, load_texts
from gelora_viz.spectra import measure_spectra

logger = logging.getLogger("gelora_viz")

_WARMUP = 0.06
"""Share of the steps over which learning rates rise; they then fall linearly to 0."""
_LOGGED_STEPS = 40
_EVALUATION_BATCH = 64


def train(spec: RunSpec, folder: RunFolder) -> bool:
    """Train as `spec` says, leaving metrics, adapter, predictions, spectrum and result in the folder.

    Returns:
        True if it ran to its end, False if it was cancelled (the adapter as far as it was trained is kept).

    Raises:
        GeloraVizError: for unusable input, and for a loss that is not finite (with its step and learning rate).
    """
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    data = load_texts(
        spec.data,
        text_column=spec.text_column,
        label_column=spec.label_column,
        max_texts=spec.max_texts,
        seed=spec.seed,
    )
    _check_data(data)
    loaded = load_model(spec.model, dtype="float32", trust_remote_code=spec.trust_remote_code)
    classifier = _build(spec, loaded.model, len(data.label_names))
    parts = {
        split: _LabelledTexts(
            tokenize(loaded.tokenizer, data.texts(split), model=loaded.model, max_length=spec.max_length),
            data.labels(split),
        )
        for split in ("train", "validation", "test")
    }
    if isinstance(classifier.backbone, PeftModel):
        measure_spectra(classifier.backbone)  # a method that cannot be measured is to be refused before it is trained
    trainer = _trainer(spec, folder, classifier, loaded.tokenizer, parts)
    started = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - started
    _save_weights(classifier, folder)
    steps = int(trainer.state.global_step)
    if steps < spec.steps:
        return False
    if isinstance(classifier.backbone, PeftModel):
        measure_spectra(classifier.backbone).save(folder.path / "spectrum.json")
    predicted = _predict(trainer, parts["test"])
    folder.write_predictions(
        data.texts("test"),
        [data.label_names[number] for number in parts["test"].labels],
        [data.label_names[number] for number in predicted],
        data.groups("test"),
    )
    folder.write_result(_numbers(spec, classifier, parts, predicted, steps, seconds))
    return True


def _check_data(data: TextData) -> None:
    counts = {split: len(data.labels(split)) for split in ("train", "validation", "test")}
    if len(data.label_names) > sum(counts.values()) / 2:
        raise InputError(
            f"{data.name} has {len(data.label_names)} classes for {sum(counts.values())} texts; are its labels "
            "numbers to be predicted? Give classes"
        )
    if len(data.label_names) < 2:
        raise InputError(f"{data.name} has the single class {data.label_names}; a classifier needs at least two")
    empty = [split for split, count in counts.items() if count == 0]
    if empty:
        raise InputError(
            f"{data.name} has no {' and no '.join(empty)} texts; give more labelled texts, or a column split"
        )


def _build(spec: RunSpec, model: transformers.PreTrainedModel, n_classes: int) -> TextClassifier:
    """The classifier; its head starts from the same weights whatever the adapter."""
    if isinstance(spec.adapter, str):
        backbone: torch.nn.Module = model.requires_grad_(False)
    else:
        backbone = add_adapter(model, spec.adapter, seed=spec.seed)
    set_seed(spec.seed)
    return TextClassifier(backbone, n_classes, spec.pooling)


class _LabelledTexts(Dataset[tuple[TokenizedText, int]]):
    """Tokenised texts and their class numbers."""

    def __init__(self, rows: Sequence[TokenizedText], labels: np.ndarray) -> None:
        self.rows = rows
        self.labels = labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[TokenizedText, int]:
        return self.rows[position], int(self.labels[position])

    def by_length(self) -> tuple[np.ndarray, _LabelledTexts]:
        """The same texts, the longest first so that batches need little padding, and the order that did it."""
        order = np.argsort([-len(row.ids) for row in self.rows], kind="stable")
        return order, _LabelledTexts([self.rows[position] for position in order], self.labels[order])


def _trainer(
    spec: RunSpec,
    folder: RunFolder,
    classifier: TextClassifier,
    tokenizer: PreTrainedTokenizerBase,
    parts: dict[str, _LabelledTexts],
) -> Trainer:
    def collator(examples: Sequence[tuple[TokenizedText, int]]) -> dict[str, torch.Tensor]:
        batch = collate([row for row, _ in examples], tokenizer=tokenizer, model=classifier.backbone)
        return {**batch, "labels": torch.tensor([label for _, label in examples])}

    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in classifier.backbone.parameters() if p.requires_grad], "lr": spec.learning_rate},
            {"params": list(classifier.head.parameters()), "lr": spec.head_learning_rate},
        ],
        weight_decay=0.0,
    )
    scheduler = get_scheduler(
        "linear", optimizer, num_warmup_steps=math.ceil(_WARMUP * spec.steps), num_training_steps=spec.steps
    )
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder.path / "trainer"),
        max_steps=spec.steps,
        per_device_train_batch_size=spec.batch_size,
        per_device_eval_batch_size=_EVALUATION_BATCH,
        logging_steps=max(1, spec.steps // _LOGGED_STEPS),
        eval_strategy="steps",
        eval_steps=max(1, math.ceil(spec.steps / spec.evaluations)),
        save_strategy="no",
        logging_nan_inf_filter=False,  # it would show a diverged loss as 0
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not on_gpu,
        seed=spec.seed,
        data_seed=spec.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=on_gpu,
        disable_tqdm=True,
        report_to=[],
    )
    return Trainer(
        model=classifier,
        args=arguments,
        data_collator=collator,
        train_dataset=parts["train"],
        eval_dataset=parts["validation"].by_length()[1],
        compute_metrics=lambda scored: {
            "accuracy": float((np.asarray(scored.predictions).argmax(axis=1) == scored.label_ids).mean())
        },
        callbacks=[_FolderCallback(folder, spec)],
        optimizers=(optimizer, scheduler),
    )


class _FolderCallback(TrainerCallback):
    """Writes metrics to the run's folder, looks for a cancel request, and stops on a loss that is not finite."""

    def __init__(self, folder: RunFolder, spec: RunSpec) -> None:
        self._folder = folder
        self._spec = spec
        self._started = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: one line of metrics for every training log and every evaluation."""
        logs = logs or {}
        for name, what in (("loss", "loss"), ("grad_norm", "gradient")):
            if name in logs and not math.isfinite(logs[name]):
                raise RunError(
                    f"the {what} became {logs[name]} by step {state.global_step} at learning rate "
                    f"{self._spec.learning_rate:g} (head {self._spec.head_learning_rate:g}); lower the learning rate"
                )
        row: dict[str, Any] = {
            name: logs[name] for name in ("loss", "learning_rate", "eval_loss", "eval_accuracy") if name in logs
        }
        if row and "train_runtime" not in logs:
            self._folder.append_metrics(
                {"step": state.global_step, "seconds": round(time.perf_counter() - self._started, 3), **row}
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002
        """Trainer's hook: stop where somebody asked for it."""
        if (self._folder.path / "cancel").exists():
            control.should_training_stop = True


def _save_weights(classifier: TextClassifier, folder: RunFolder) -> None:
    target = folder.path / "adapter"
    target.mkdir(exist_ok=True)
    if isinstance(classifier.backbone, PeftModel):
        classifier.backbone.save_pretrained(str(target), safe_serialization=True)
    save_file({name: value.detach().cpu().contiguous() for name, value in classifier.head.state_dict().items()},
              target / "head.safetensors")  # fmt: skip


def _predict(trainer: Trainer, test: _LabelledTexts) -> np.ndarray:
    """Class numbers (n_texts,) in the order of the test texts."""
    order, by_length = test.by_length()
    predicted = np.empty(len(test), dtype=np.int64)
    predicted[order] = np.asarray(trainer.predict(by_length).predictions).argmax(axis=1)
    return predicted


def _numbers(
    spec: RunSpec,
    classifier: TextClassifier,
    parts: dict[str, _LabelledTexts],
    predicted: np.ndarray,
    steps: int,
    seconds: float,
) -> dict[str, Any]:
    labels = parts["test"].labels
    device = next(classifier.parameters()).device
    return {
        "accuracy": float((predicted == labels).mean()),
        "macro_f1": float(f1_score(labels, predicted, average="macro")),
        "n_train": len(parts["train"]),
        "n_test": len(labels),
        "n_parameters": sum(p.numel() for p in classifier.backbone.parameters() if p.requires_grad),
        "n_head_parameters": sum(p.numel() for p in classifier.head.parameters()),
        "steps": steps,
        "learning_rate": spec.learning_rate if not classifier.is_frozen else None,
        "seconds": round(seconds, 2),
        "precision": "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "versions": {
            "gelora_viz": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft_version,
            "python": platform.python_version(),
        },
    }
