"""Trainings of a tiny BERT that take half a second."""

from __future__ import annotations

import copy

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, set_seed

from gelora_viz.activations import collate, tokenize
from gelora_viz.training import TextClassifier

LORA = LoraConfig(r=4, target_modules=["query", "value"], lora_dropout=0.2)


def classifier_of(model, config=LORA):
    """A classifier whose backbone is the model, with an adapter unless the config is None."""
    set_seed(0)
    model = copy.deepcopy(model)
    return TextClassifier(model if config is None else get_peft_model(model, copy.deepcopy(config)), 3)


def train(classifier, tokenizer, labelled_texts, folder, callbacks=(), *, steps=12, resume=None, **arguments):
    """Train with dropout, from a fixed seed, and return the Trainer."""
    texts, labels = labelled_texts
    rows = tokenize(tokenizer, texts, model=classifier.backbone)

    def collator(examples):
        batch = collate([row for row, _ in examples], tokenizer=tokenizer, model=classifier.backbone)
        return {**batch, "labels": torch.tensor([label for _, label in examples])}

    usual = {
        "output_dir": str(folder), "max_steps": steps, "per_device_train_batch_size": 8, "learning_rate": 5e-3,
        "use_cpu": True, "save_strategy": "no", "report_to": [], "remove_unused_columns": False, "disable_tqdm": True,
        "label_names": ["labels"], "seed": 0,
    }  # fmt: skip
    trainer = Trainer(
        model=classifier,
        args=TrainingArguments(**usual | arguments),
        data_collator=collator,
        train_dataset=list(zip(rows, labels, strict=True)),
        eval_dataset=list(zip(rows[:16], labels[:16], strict=True)),
        callbacks=list(callbacks),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer
