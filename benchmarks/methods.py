"""Ways to fine-tune, at one budget of parameters where they have one, compared over seeds on the embedded task.

Every method gets the same sweep of learning rates; the finished runs in FOLDER are not repeated, so that an
interrupted comparison goes on where it stopped.

Writes benchmarks/results/methods.txt (the table, what it means in words, every run) and FOLDER/methods.json (the
same, for `gelora_viz.Comparison.load`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from machine import describe_machine
from peft import AdaLoraConfig, EvaConfig, LoraConfig, PeftConfig, VeraConfig

import gelora_viz as gv
from gelora_viz.comparison import shorten_comparison

RESULTS = Path(__file__).parent / "results"
BUDGET_RANK = 4
"""The budget is that of uniform LoRA with this rank."""


def plans_and_configs(study: gv.Study) -> dict[str, gv.RankPlan | PeftConfig | str]:
    """Name -> adapter; all but the frozen probe and full fine-tuning within one budget."""
    model = study.loaded.model
    budget = gv.uniform_budget(model, BUDGET_RANK)
    study.profile(poolings=["tokens"], max_points=6000)
    uniform = study.allocate("uniform", strategy="uniform", budget=budget, pooling="tokens")
    eva = study.allocate("eva", strategy="eva", budget=budget, pooling="tokens")
    return {
        "uniform": uniform,
        "frozen": "frozen",
        "gelora": study.allocate("gelora", budget=budget, pooling="tokens"),
        "reversed": study.allocate("reversed", strategy="reversed", budget=budget, pooling="tokens"),
        "eva": eva.to_peft_config(init_lora_weights="eva", eva_config=EvaConfig(rho=1)),
        "dora": gv.fit_budget(LoraConfig(lora_alpha=16, use_dora=True), model, budget),
        "adalora": gv.fit_budget(AdaLoraConfig(total_step=200, tinit=20, tfinal=60, lora_alpha=24), model, budget),
        "vera": gv.fit_budget(VeraConfig(), model, budget),
        "genlora": gv.fit_budget(
            gv.GenLoraConfig(num_groups=8, num_rbfs=4, train_centers=False, train_widths=False), model, budget
        ),
        "full": "full",
    }


def main(folder: str, n_seeds: int, steps: int, at_once: int, methods: list[str]) -> None:
    """Compare all methods, or those named, and write."""
    study = gv.Study.create(folder, model="minilm", data="icd10cm")
    adapters = plans_and_configs(study)
    options = {"steps": steps, "model": "minilm", "data": str((study.path / "data.jsonl").resolve())}
    specs = [gv.RunSpec(name, adapter, **options) for name, adapter in adapters.items()]
    specs.append(gv.RunSpec("lora-plus", adapters["uniform"], plus_ratio=16.0, **options))
    chosen = [spec for spec in specs if not methods or spec.name in methods]
    found = gv.compare(chosen, seeds=range(n_seeds), folder=study.path / "runs" / "methods", at_once=at_once)
    machine = describe_machine("torch", "transformers", "peft")
    table = shorten_comparison(found.frame).to_string(index=False)
    notes = "\n".join(f"- {note}" for note in found.notes)
    runs = found.runs.drop(columns=["message", "folder"]).to_csv(index=False, float_format="%.6g")
    text = f"{machine}, {steps} steps of 32, {at_once} runs at once\n{found.caption}\n\n{table}\n\n{notes}\n\n{runs}"
    (RESULTS / "methods.txt").write_text(text, encoding="utf-8")
    found.save(study.path / "methods.json")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="the study, made where there is none")
    parser.add_argument("seeds", nargs="?", type=int, default=3, help="number of seeds (default: %(default)s)")
    parser.add_argument("steps", nargs="?", type=int, default=200, help="steps of each run (default: %(default)s)")
    parser.add_argument("at_once", nargs="?", type=int, default=2, help="runs at a time (default: %(default)s)")
    parser.add_argument(
        "methods", nargs="?", default="", help="some of the methods, as in uniform,dora (default: all)"
    )
    options = parser.parse_args()
    chosen = options.methods.split(",") if options.methods else []
    main(options.folder, options.seeds, options.steps, options.at_once, chosen)
