"""Train what a specification describes with the Hugging Face Trainer, and measure the outcome."""

from __future__ import annotations

import gc
import logging
import math
import os
import platform
import time
from contextlib import suppress
from typing import Any

import numpy as np
import torch
import transformers
from peft import PeftModel
from peft import __version__ as peft_version
from transformers import TrainingArguments

from gelora_viz._version import __version__
from gelora_viz.errors import InputError
from gelora_viz.runs import CAUSAL_LM, CLASSIFICATION, FROZEN, RunFolder, RunSpec, is_out_of_memory
from gelora_viz.spectra import measure_spectra
from gelora_viz.training.adalora import AdaLoraCallback, is_adalora, parameters_kept
from gelora_viz.training.classification import Classification
from gelora_viz.training.language import LanguageModeling
from gelora_viz.training.optimizers import build_optimizer, build_schedule
from gelora_viz.training.reporting import CancelledError, CountingTrainer, FolderCallback, memory
from gelora_viz.training.tasks import Task, Texts

logger = logging.getLogger("gelora_viz")

_TASKS: dict[str, type[Task]] = {CLASSIFICATION: Classification, CAUSAL_LM: LanguageModeling}
_LOGGED_STEPS = 40


def train(spec: RunSpec, folder: RunFolder) -> bool:
    """Train as `spec` says and write metrics, adapter, predictions, spectrum and result into the folder.

    Where a GPU's memory does not hold the texts that are read at a time, the training begins again with half as many
    (the next divisor below): the same seed, the same texts in every optimizer step, the same order.

    Returns:
        True if it ran to its end, False if it was cancelled (the adapter as far as it was trained is kept).

    Raises:
        GeloraVizError: for unusable input, and for a loss that is not finite (with its step and learning rate).
        torch.OutOfMemoryError: if not even one text at a time fits.
    """
    precision = _choose_precision(spec.precision)
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    size = spec.micro_batch_size
    if size % n_processes:
        raise InputError(
            f"{size} texts at a time cannot be divided among {n_processes} processes; give a batch_size that can"
        )
    while True:
        try:
            return _train_once(spec, folder, size, precision)
        except RuntimeError as error:
            smaller = _next_smaller(size, spec.batch_size)
            # Of several processes, the others would wait for this one.
            if not _is_short_of_gpu_memory(error) or smaller is None or n_processes > 1:
                raise
        logger.warning("out of memory with %d texts at a time; starting over with %d", size, smaller)
        size = smaller
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        (folder.path / "metrics.jsonl").unlink(missing_ok=True)


def _choose_precision(asked: str | None) -> str:
    """The precision in which this machine multiplies matrices.

    Raises:
        InputError: if the machine cannot compute in the precision asked for.
    """
    on_gpu = torch.cuda.is_available()
    has_bfloat16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if asked is None:
        return "bfloat16" if has_bfloat16 else "float32"
    if asked == "float16" and not on_gpu:
        raise InputError("precision float16 needs a GPU, and there is none; choose bfloat16 or float32")
    if asked == "bfloat16" and on_gpu and not has_bfloat16:
        raise InputError("precision bfloat16 is not supported by this GPU; choose float16 or float32")
    return asked


def _is_short_of_gpu_memory(error: RuntimeError) -> bool:
    """Whether GPU memory ran out; some CUDA libraries report it in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or (torch.cuda.is_available() and is_out_of_memory(error))


def _next_smaller(size: int, batch_size: int) -> int | None:
    """The largest divisor of `batch_size` that is at most half of `size`."""
    return next((half for half in range(size // 2, 0, -1) if batch_size % half == 0), None)


def _train_once(spec: RunSpec, folder: RunFolder, size: int, precision: str) -> bool:
    """Train with `size` texts at a time, over all processes."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    data = spec.data_digest  # of what is read now, whatever becomes of the file meanwhile
    task = _TASKS[spec.task](spec)
    if isinstance(task.backbone, PeftModel):
        measure_spectra(task.backbone)  # a method that cannot be measured is to be refused before it is trained
    trainer = _build_trainer(task, folder, size, precision)
    folder.is_training = True
    started = time.perf_counter()
    with suppress(CancelledError):
        if task.trains:
            trainer.train()
        else:
            trainer.evaluate()
    seconds = time.perf_counter() - started
    keeps = trainer.is_world_process_zero()
    if keeps:
        with folder.write_whole("adapter") as target:
            task.save_weights(target)
    if task.trains and trainer.state.global_step < spec.steps:
        return False
    try:
        validation = _validation_scores(trainer)
        reduced = _predict(trainer, task.parts["test"])
    except CancelledError:
        return False
    if keeps:
        if isinstance(task.backbone, PeftModel):
            measure_spectra(task.backbone).save(folder.path / "spectrum.json")
        scores = task.keep_predictions(reduced, folder)
        numbers = {**scores, **validation, **_numbers(task, trainer, seconds, precision)}
        folder.write_result(numbers, data=data)
    return True


def _build_trainer(task: Task, folder: RunFolder, size: int, precision: str) -> CountingTrainer:
    spec, on_gpu = task.spec, torch.cuda.is_available()
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    arguments = TrainingArguments(
        output_dir=str(folder.path / "trainer"),
        max_steps=spec.steps,
        per_device_train_batch_size=size // n_processes,
        gradient_accumulation_steps=spec.batch_size // size,
        # What did not fit in training is scored in smaller pieces, too.
        per_device_eval_batch_size=max(1, task.evaluation_batch * size // spec.micro_batch_size),
        logging_steps=max(1, spec.steps // _LOGGED_STEPS),
        eval_strategy="steps",
        eval_steps=max(1, math.ceil(spec.steps / spec.evaluations)),
        save_strategy="no",
        logging_nan_inf_filter=False,  # it would show a diverged loss as 0
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=not on_gpu,
        seed=spec.seed,
        data_seed=spec.seed,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=on_gpu,
        disable_tqdm=True,
        report_to=[],
    )
    optimizer = build_optimizer(spec, task.backbone, task.head) if task.trains else None
    trainer = CountingTrainer(
        model=task.module,
        args=arguments,
        data_collator=task.collate,
        train_dataset=task.parts["train"],
        eval_dataset=task.parts["validation"].by_length()[1],
        compute_loss_func=task.loss,
        preprocess_logits_for_metrics=task.reduce,
        compute_metrics=task.scores,
        optimizers=(optimizer, None if optimizer is None else build_schedule(spec, optimizer)),
    )
    trainer.add_callback(FolderCallback(folder, spec, trainer))
    if is_adalora(task.backbone):
        trainer.add_callback(AdaLoraCallback(task.backbone))
    if spec.spectra_every is not None:
        from gelora_viz.spectra import SpectrumRecorder

        trainer.add_callback(SpectrumRecorder(every=spec.spectra_every, path=folder.path / "spectra.json"))
    return trainer


def _validation_scores(trainer: CountingTrainer) -> dict[str, float]:
    """The trained model's scores on the validation texts, by which learning rates are chosen."""
    last = next((row for row in reversed(trainer.state.log_history) if "eval_loss" in row), None)
    scores = last if last is not None and last["step"] == trainer.state.global_step else trainer.evaluate()
    kept = {
        f"validation_{name}": float(scores[f"eval_{name}"])
        for name in ("loss", "accuracy", "f1", "perplexity")
        if f"eval_{name}" in scores
    }
    if "validation_perplexity" in kept:  # Trainer weighs batches by their texts, not by their tokens
        kept["validation_loss"] = math.log(kept["validation_perplexity"])
    return kept


def _predict(trainer: CountingTrainer, test: Texts) -> np.ndarray:
    """The scores that the task keeps, (n_texts, n_numbers) in the order of the test texts."""
    order, by_length = test.by_length()
    predicted = np.asarray(trainer.predict(by_length).predictions)
    reduced = np.empty_like(predicted)
    reduced[order] = predicted
    return reduced


def _numbers(task: Task, trainer: CountingTrainer, seconds: float, precision: str) -> dict[str, Any]:
    spec, backbone = task.spec, task.backbone
    device = next(task.module.parameters()).device
    n_parameters = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
    return {
        "n_train": len(task.parts["train"]),
        "n_test": len(task.parts["test"]),
        "n_parameters": n_parameters,
        "n_parameters_kept": parameters_kept(backbone) if is_adalora(backbone) else n_parameters,
        "n_head_parameters": sum(parameter.numel() for parameter in task.head),
        "steps": int(trainer.state.global_step),
        "learning_rate": spec.learning_rate if spec.adapter != FROZEN else None,
        "seconds": round(seconds, 2),
        "tokens_per_second": trainer.tokens_per_second(seconds),
        "peak_memory_mb": memory()["memory_mb"],
        "micro_batch_size": spec.batch_size // trainer.args.gradient_accumulation_steps,
        "precision": precision,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "processes": trainer.args.world_size,
        "versions": {
            "gelora_viz": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft_version,
            "python": platform.python_version(),
        },
    }
