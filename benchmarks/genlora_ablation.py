"""Our reconstruction of GenLoRA, part by part, against LoRA on the embedded task: accuracy and effective rank.

Every method gets the same small sweep of learning rates with seed 0; the one with the best validation accuracy is
then run with the other seeds. The test texts take no part in the choice. Runs are worker processes, two at a time,
and a finished one is not repeated, so an interrupted ablation goes on where it stopped.

Writes benchmarks/results/genlora_ablation.csv, one row per run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
from machine import describe_machine
from peft import LoraConfig, PeftConfig
from scipy import stats

from gelora_viz import GenLoraConfig, RunSpec, attach, launch

RESULTS = Path(__file__).parent / "results" / "genlora_ablation.csv"
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
AT_ONCE = 2
TARGETS = ["query", "value"]
GRID = {"train_centers": False, "train_widths": False}


def lora(r: int) -> LoraConfig:
    """LoRA at the scale 2 that every method here has."""
    return LoraConfig(r=r, lora_alpha=2 * r, target_modules=TARGETS)


def genlora(r: int, groups: int, rbfs: int, **parts: bool) -> GenLoraConfig:
    """GenLoRA; `parts` say what trains."""
    return GenLoraConfig(r=r, num_groups=groups, num_rbfs=rbfs, target_modules=TARGETS, **parts)


METHODS: dict[str, PeftConfig] = {
    "lora-r2": lora(2),
    "lora-r4": lora(4),
    "lora-r8": lora(8),
    "grid-r16-g8-k4": genlora(16, 8, 4, **GRID),
    "grid-r16-g1-k16": genlora(16, 1, 16, **GRID),
    "grid-r16-g4-k4": genlora(16, 4, 4, **GRID),
    "grid-r16-g16-k4": genlora(16, 16, 4, **GRID),
    "grid-r16-g8-k8": genlora(16, 8, 8, **GRID),
    "grid-r8-g4-k4": genlora(8, 4, 4, **GRID),
    "grid-r16-g8-k4-frozen-latent": genlora(16, 8, 4, train_latent=False, **GRID),
    "full-r16-g8-k4": genlora(16, 8, 4),
}


def spec_of(method: str, learning_rate: float, seed: int, steps: int) -> RunSpec:
    """One run, named after what sets it apart."""
    name = f"{method}_lr{learning_rate:g}_seed{seed}"
    return RunSpec(name, METHODS[method], steps=steps, learning_rate=learning_rate, seed=seed, threads=1)


def run_all(specs: list[RunSpec], folder: Path) -> None:
    """Run what is not finished yet, some at a time, and wait for all."""
    waiting = [spec for spec in specs if not (folder / spec.name / "result.json").exists()]
    running = []
    while waiting or running:
        running = [run for run in running if run.status in ("queued", "running")]
        while waiting and len(running) < AT_ONCE:
            running.append(launch(waiting[0], run_dir=folder / waiting[0].name, at_once=AT_ONCE))
            print(f"{time.strftime('%H:%M:%S')} {waiting.pop(0).name}, {len(waiting)} waiting", flush=True)
        time.sleep(1)


def row_of(folder: Path, method: str, spec: RunSpec) -> dict[str, object] | None:
    """What one run showed; None if it failed, as one that diverged does."""
    run = attach(folder / spec.name)
    result = run.result() if run.status == "finished" else None
    if result is None or result.spectrum is None:
        return None
    config = METHODS[method]
    parts = [part for part in ("latent", "weights", "centers", "widths") if getattr(config, f"train_{part}", False)]
    return {
        "method": method,
        "r": config.r,
        "groups": getattr(config, "num_groups", None),
        "rbfs": getattr(config, "num_rbfs", None),
        "trains": " ".join(parts) or "A B",
        "learning_rate": spec.learning_rate,
        "seed": spec.seed,
        "n_parameters": result.numbers["n_parameters"],
        "validation_accuracy": run.metrics["eval_accuracy"].dropna().iloc[-1],
        "accuracy": result.numbers["accuracy"],
        "entropy_rank": result.spectrum.frame["entropy_rank"].mean(),
        "seconds": result.numbers["seconds"],
    }


def main(place: Path, n_seeds: int, n_steps: int) -> None:
    """Sweep, choose, repeat with further seeds, write."""
    sweep = [(method, spec_of(method, rate, 0, n_steps)) for method in METHODS for rate in LEARNING_RATES]
    run_all([spec for _, spec in sweep], place)
    swept = pd.DataFrame([row for method, spec in sweep if (row := row_of(place, method, spec)) is not None])
    best = swept.loc[swept.groupby("method")["validation_accuracy"].idxmax()].set_index("method")["learning_rate"]
    repeats = [
        (method, spec_of(method, best[method], seed, n_steps))
        for seed in range(1, n_seeds)
        for method in METHODS
        if method in best
    ]
    run_all([spec for _, spec in repeats], place)
    rows = [row for method, spec in [*sweep, *repeats] if (row := row_of(place, method, spec)) is not None]
    table = pd.DataFrame(rows)
    table["chosen"] = table["method"].map(best) == table["learning_rate"]
    machine = describe_machine("torch", "transformers", "peft")
    RESULTS.write_text(f"{machine}, {n_steps} steps of 32\n" + table.to_csv(index=False, float_format="%.6g"))
    print(summarise(table[table["chosen"]]))


def summarise(table: pd.DataFrame, baseline: str = "lora-r2") -> str:
    """A Markdown table over seeds: means, 95 % intervals by Student's t, and differences paired by seed."""
    lines = [
        "| method | trains | parameters | learning rate | accuracy | difference to LoRA r=2 | mean effective rank |",
        "|---|---|---|---|---|---|---|",
    ]
    reference = table[table["method"] == baseline].set_index("seed")["accuracy"]
    for method, rows in table.groupby("method", sort=False):
        by_seed = rows.set_index("seed")
        first = rows.iloc[0]
        accuracy, reach = interval(by_seed["accuracy"])
        gap, gap_reach = interval(by_seed["accuracy"] - reference)
        rank, rank_reach = interval(by_seed["entropy_rank"])
        difference = f"{gap:+.3f} [{gap - gap_reach:+.3f}, {gap + gap_reach:+.3f}]" if method != baseline else "–"
        lines.append(
            f"| {method} | {first['trains']} | {first['n_parameters']:,} | {first['learning_rate']:g} | "
            f"{accuracy:.3f} ± {reach:.3f} | {difference} | {rank:.2f} ± {rank_reach:.2f} |"
        )
    return "\n".join(lines)


def interval(values: pd.Series) -> tuple[float, float]:
    """Mean, and how far its 95 % interval reaches."""
    error = float(values.std() / len(values) ** 0.5)
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1)) * error


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the runs are kept")
    parser.add_argument("seeds", nargs="?", type=int, default=3, help="number of seeds (default: %(default)s)")
    parser.add_argument("steps", nargs="?", type=int, default=200, help="steps of each run (default: %(default)s)")
    options = parser.parse_args()
    main(options.folder, options.seeds, options.steps)
