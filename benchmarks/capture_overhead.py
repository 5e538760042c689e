"""What does a capture cost beside the plain forward pass over the same batches?

Times `capture` and a plain loop `model(**batch)` without gradients over the same texts in the same batches,
tokenising included in both, in turns in one process, and prints the median of the ratios, of wall time and of
processor time; the extremes are of the latter. With MiniLM all blocks are wanted, so nothing is saved and the ratio
shows what hooks, pooling and bookkeeping cost. The causal language model (random weights, a vocabulary of 30,522
words) shows what is saved where the forward pass stops at the last block and the head never runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch
from machine import describe_machine
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from gelora_viz.activations import capture
from gelora_viz.sources import load_model, load_texts

BATCH_SIZE = 64


def run_plainly(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> None:
    """The loop that a capture is compared with: texts of one length together, as `capture` has them."""
    rows = tokenizer(texts, truncation=True, max_length=512)
    order = sorted(range(len(texts)), key=lambda text: -len(rows["input_ids"][text]))
    with torch.no_grad():
        for start in range(0, len(texts), BATCH_SIZE):
            members = order[start : start + BATCH_SIZE]
            inputs = {name: [rows[name][text] for text in members] for name in ("input_ids", "attention_mask")}
            model(**tokenizer.pad(inputs, return_tensors="pt"))


class Seconds(NamedTuple):
    """Of one run: on the clock, and of the processor, which other processes disturb less."""

    wall: float
    cpu: float


def seconds(work: Callable[[], object]) -> Seconds:
    """Run once and time it."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def compare(name: str, model: PreTrainedModel, texts: list[str], n_repetitions: int) -> list[dict[str, object]]:
    """One row per way to capture."""
    _, tokenizer, _ = load_model("minilm")
    options = {"batch_size": BATCH_SIZE, "progress": False}
    ways: dict[str, Callable[[], object]] = {
        "mean": lambda: capture(model, tokenizer, texts, **options),
        "tokens": lambda: capture(model, tokenizer, texts, pooling="tokens", **options),
        "mean, behind the final norm": lambda: capture(model, tokenizer, texts, layers="hidden_states", **options),
    }
    times: dict[str, list[Seconds]] = {way: [] for way in ways}
    ratios: dict[str, list[Seconds]] = {way: [] for way in ways}
    run_plainly(model, tokenizer, texts)
    before = seconds(lambda: run_plainly(model, tokenizer, texts))
    for _ in range(n_repetitions):
        for way, work in ways.items():
            spent = seconds(work)
            after = seconds(lambda: run_plainly(model, tokenizer, texts))
            times[way].append(spent)  # beside the mean of the loops around it
            ratios[way].append(Seconds(*(2 * own / (a + b) for own, a, b in zip(spent, before, after, strict=True))))
            before = after
    return [
        {
            "model": name,
            "points": way,
            "capture, s": statistics.median(each.wall for each in times[way]),
            "ratio": statistics.median(each.wall for each in ratios[way]),
            "CPU ratio": statistics.median(each.cpu for each in ratios[way]),
            "smallest": min(each.cpu for each in ratios[way]),
            "largest": max(each.cpu for each in ratios[way]),
        }
        for way in ways
    ]


def main(n_texts: int, n_repetitions: int) -> None:
    """Print one row per model and way to capture."""
    torch.manual_seed(0)
    texts = load_texts("icd10cm").texts("train")[:n_texts]
    config = LlamaConfig(
        vocab_size=30522, hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=12
    )
    rows = [
        *compare("MiniLM (BERT, 6 blocks)", load_model("minilm").model, texts, n_repetitions),
        *compare("Llama with head (6 blocks)", LlamaForCausalLM(config).eval(), texts, n_repetitions),
    ]
    print(describe_machine("torch", "transformers"))
    print(f"{len(texts)} texts, batches of {BATCH_SIZE}, {n_repetitions} repetitions; ratio: capture / plain forward")
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="?", type=int, default=192, help="number of texts (default: %(default)s)")
    parser.add_argument("repetitions", nargs="?", type=int, default=7, help="number of rounds (default: %(default)s)")
    options = parser.parse_args()
    main(options.texts, options.repetitions)
