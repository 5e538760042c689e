"""The spectrum of an update through its factors against a full decomposition: seconds, ratio, largest difference.

One 2,048 x 2,048 matrix with an adapter of rank 32 that has moved at random. Ours is all of `measure_spectra`, checks
and table included. The peer forms the update with PEFT's `get_delta_weight` and gives it to `torch.linalg.svdvals` in
float64. Both run in turn in this process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import describe_machine
from peft import AdaLoraConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import nn

from gelora_viz import measure_spectra
from gelora_viz.adapters import GenLoraConfig

SIZE = 2048
RANK = 32
METHODS: dict[str, PeftConfig] = {
    "LoRA": LoraConfig(r=RANK, target_modules=["0"], init_lora_weights=False),
    "AdaLoRA": AdaLoraConfig(init_r=RANK, target_modules=["0"], total_step=10, init_lora_weights=False),
    "GenLoRA": GenLoraConfig(r=RANK, target_modules=["0"], init_weights=False),
}


def full_spectrum(adapted: PeftModel) -> np.ndarray:
    """Singular values (SIZE,) of the whole update."""
    with torch.no_grad():
        update = adapted.get_base_model()[0].get_delta_weight("default")
        return np.asarray(torch.linalg.svdvals(update.double()).numpy())


def seconds(run: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """How long it takes, and what it gives."""
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def main(n_rounds: int) -> None:
    """Print one row per method: medians over the rounds."""
    print(describe_machine("torch", "peft"))
    print(f"one {SIZE} x {SIZE} matrix, rank {RANK}, median of {n_rounds} rounds after a first one\n")
    print(
        f"{'method':10s}{'full, s':>10s}{'factors, s':>12s}{'ratio':>8s}{'largest difference / largest value':>38s}"
    )
    for name, config in METHODS.items():
        torch.manual_seed(0)
        adapted = get_peft_model(nn.Sequential(nn.Linear(SIZE, SIZE)), config)
        whole, factors = [], []
        for _ in range(n_rounds + 1):
            taken, truth = seconds(lambda model=adapted: full_spectrum(model))  # type: ignore[misc]
            whole.append(taken)
            taken, ours = seconds(lambda model=adapted: measure_spectra(model).singular_values["0"])  # type: ignore[misc]
            factors.append(taken)
        full, quick = float(np.median(whole[1:])), float(np.median(factors[1:]))
        difference = np.abs(np.pad(ours, (0, SIZE - len(ours))) - truth).max() / truth[0]
        print(f"{name:10s}{full:10.3f}{quick:12.5f}{full / quick:8,.0f}{difference:38.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=5, help="number of rounds (default: %(default)s)")
    main(parser.parse_args().rounds)
