"""Commands that train, and show what was trained: finetune, results, runs, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gelora_viz._checks import check_whole
from gelora_viz._names import check_file_name
from gelora_viz._text import to_one_line
from gelora_viz.cli.opening import Quiet, Replace, Seed, StudyFolder, TrustRemoteCode, open_study
from gelora_viz.cli.printing import print_comparison, print_results, print_table
from gelora_viz.comparison import check_n_seeds
from gelora_viz.runs import check_fields
from gelora_viz.study import check_baseline, check_methods, open_record


def finetune(
    study: StudyFolder,
    plan: Annotated[
        list[str], typer.Option(help='Name of a plan, or "frozen" for the linear probe; repeat for several.')
    ],
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 200,
    batch_size: Annotated[int, typer.Option(help="Texts per step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Learning rate of the adapter.")] = 2e-3,
    head_learning_rate: Annotated[float, typer.Option(help="Learning rate of the linear head.")] = 5e-3,
    pooling: Annotated[
        str, typer.Option(help="How the head pools the last hidden state: mean, last or cls.")
    ] = "mean",
    max_length: Annotated[
        int | None, typer.Option(help="Maximum number of tokens per text; longer texts are cut.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Number of CPU threads.")] = None,
    replace: Replace = False,
    trust_remote_code: TrustRemoteCode = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Fine-tune briefly and measure accuracy on the test texts and the effective rank of every update.

    Each run is a process of its own; Ctrl-C cancels it, and the same command starts it again.

    Example: gelora-viz finetune my-study --plan frozen --plan uniform --plan gelora
    """
    options: dict[str, Any] = {
        "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate,
        "head_learning_rate": head_learning_rate, "pooling": pooling, "max_length": max_length, "threads": threads,
        "seed": seed,
    }  # fmt: skip
    check_fields(options)
    open_record(study)
    check_methods(study, plan)  # all of them, before the first is trained
    opened = open_study(study, trust_remote_code=trust_remote_code)
    for name in plan:
        run = opened.finetune(name, replace=replace, progress=not quiet, **options)
        print(to_one_line(repr(run.result())))


def results(
    study: StudyFolder,
    baseline: Annotated[
        str | None, typer.Option(help="Run to compare with.  [dim]default: uniform, or the first[/dim]")
    ] = None,
) -> None:
    """Show the finished runs side by side, with intervals over test texts, and say which gaps are inside the noise.

    Example: gelora-viz results my-study --baseline frozen
    """
    open_record(study)
    if baseline is not None:
        check_baseline(study, baseline)
    print_results(open_study(study).tabulate_results(baseline=baseline))


def runs(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a study, or of runs.  [dim]default: all that train or wait on this machine[/dim]",
            show_default=False,
        ),
    ] = None,
    cancel: Annotated[
        Path | None, typer.Option(help="Folder of a run to end after its current step.", show_default=False)
    ] = None,
) -> None:
    """List runs: those of a folder, or all that train or wait on this machine, whatever their study.

    Example: gelora-viz runs
    """
    from gelora_viz.runs import attach, list_runs

    if cancel is not None:
        run = attach(cancel)
        run.cancel()
        print(f"{run.path}  {run.status}")
        return
    found = list_runs(folder)
    if found.empty:
        print("no run trains or waits on this machine" if folder is None else f"no runs in {folder}")
        return
    time = "since" if folder is None else "started"
    found[time] = [f"{moment:%Y-%m-%d %H:%M}" if moment == moment else "" for moment in found[time]]
    if folder is None:
        print_table(found.astype({"pid": "string"}).fillna({"pid": ""}), "Runs on this machine")
    else:
        shown = ["run", "status", "message", "method", "seed", "step", "steps", "started"]
        print_table(found[shown], f"Runs in {folder}")


def compare(
    study: StudyFolder,
    plan: Annotated[list[str], typer.Option(help='Name of a plan, "frozen" or "full"; repeat for several.')],
    baseline: Annotated[
        str | None, typer.Option(help="Method to compare with.  [dim]default: uniform, or the first[/dim]")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1, 2 and so on.")] = 3,
    sweep: Annotated[
        bool, typer.Option(help="Choose each method's learning rate, the same way for all, on validation texts.")
    ] = True,
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 200,
    batch_size: Annotated[int, typer.Option(help="Texts per step.")] = 32,
    task: Annotated[str, typer.Option(help="classification or causal-lm.")] = "classification",
    at_once: Annotated[
        int | None, typer.Option(help="Number of runs at the same time.  [dim]default: one, or one per GPU[/dim]")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the comparison, whose runs are in runs/NAME.")] = "comparison",
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
) -> None:
    """Train methods with several seeds, each at its best learning rate, and compare them.

    Ctrl-C cancels, and the same command goes on from there.

    Example: gelora-viz compare my-study --plan uniform --plan gelora --plan frozen --seeds 5 --at-once 2
    """
    options: dict[str, Any] = {"steps": steps, "batch_size": batch_size, "task": task}
    check_fields(options)
    check_file_name(name, "comparison name")
    if at_once is not None:
        check_whole(at_once, "at_once")
    n_seeds = check_n_seeds(seeds)
    open_record(study)
    check_methods(study, plan)
    opened = open_study(study, trust_remote_code=trust_remote_code)
    found = opened.compare(
        plan, name=name, seeds=range(n_seeds), sweep_rates=sweep, baseline=baseline, at_once=at_once,
        progress=not quiet, **options,
    )  # fmt: skip
    print_comparison(found)
    print(f"runs     {opened.path / 'runs' / name}")
