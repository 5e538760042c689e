"""Commands from texts to ranks: profile and allocate, and the list of estimators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gelora_viz._checks import resolve_device
from gelora_viz._results import format_cell
from gelora_viz.cli.opening import Quiet, Replace, Seed, StudyFolder, TrustRemoteCode, open_study, quieten_libraries
from gelora_viz.cli.printing import print_dimensions, print_rows, print_table
from gelora_viz.dimension import describe_estimators
from gelora_viz.errors import GeloraVizError
from gelora_viz.ranks import list_strategies
from gelora_viz.study import POOLINGS, check_allocation, check_profile, check_source

if TYPE_CHECKING:
    from gelora_viz.study import Study


def profile(
    study: StudyFolder,
    model: Annotated[
        str | None,
        typer.Option(help="minilm, smollm2 (once fetched), a local folder, or a Hub id; to begin a study."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="icd10cm, a .csv .tsv .jsonl .json .parquet or .txt file, or a Hub data set id (owner/name or "
            "owner/name:configuration); to begin a study."
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the texts, if it cannot be inferred.")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column with the classes, if it cannot be inferred.")
    ] = None,
    max_texts: Annotated[int | None, typer.Option(help="Maximum number of training texts.")] = None,
    pooling: Annotated[
        list[str] | None,
        typer.Option(help="mean, last, cls or tokens; repeat for several. [dim]default: mean and tokens[/dim]"),
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(
            help='Names from `gelora-viz estimators`, or "all"; repeat for several.  [dim]default: five[/dim]'
        ),
    ] = None,
    k: Annotated[int, typer.Option(help="Number of neighbors, for estimators that do not fix it.")] = 20,
    correct: Annotated[
        bool, typer.Option("--correct", help="Also show estimates with their finite-sample bias corrected.")
    ] = False,
    plateau: Annotated[
        bool,
        typer.Option(
            "--plateau",
            help="Halve the texts again and again, and average the two adjacent estimates that differ least.",
        ),
    ] = False,
    max_points: Annotated[
        int | None, typer.Option(help="Maximum number of points per layer (10,000 for tokens).")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Maximum number of tokens per text; longer texts are cut.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to run the model and search neighbors, such as cuda.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Capture hidden states and estimate the intrinsic dimension of every layer.

    Example: gelora-viz profile my-study --model FacebookAI/roberta-base --data reviews.csv --label-column stars
    """
    choices: dict[str, Any] = {"text_column": text_column, "label_column": label_column, "max_texts": max_texts}
    check_source(model=model, data=data, **choices, seed=seed)
    options: dict[str, Any] = {
        "poolings": pooling or POOLINGS, "estimators": estimator, "k": k, "correct": correct, "plateau": plateau,
        "max_points": max_points, "max_length": max_length, "seed": seed, "progress": not quiet,
    }  # fmt: skip
    check_profile(**options)
    if device is not None:
        resolve_device(device)  # before the folder is made
    opened = _open_or_create(study, model, data, choices, seed=seed, trust_remote_code=trust_remote_code)
    profiles = opened.profile(**options, device=device)
    for name, each in profiles.items():
        size = f"pooling {name}: {int(each.frame['n_points'].max()):,} points, 95 % intervals"
        print_dimensions(each.frame, ("dimension", "ci_low", "ci_high"), f"Intrinsic dimension, {size}")
        if correct:
            corrected = each.frame[each.frame["corrected"].notna()]
            columns = ("corrected", "corrected_low", "corrected_high")
            print_dimensions(corrected, columns, f"Corrected for finite-sample bias, {size}")


def _open_or_create(
    path: Path, model: str | None, data: str | None, choices: dict[str, Any], *, seed: int, trust_remote_code: bool
) -> Study:
    """The study in the folder, which must have the model and data that are named; or a new one with them."""
    if (path / "study.json").exists():
        opened = open_study(path, trust_remote_code=trust_remote_code)
        if data is None or opened.has_results:
            opened.check_source(model=model, data=data, **choices, seed=None if data is None else seed)
            return opened
        model = opened.model_source if model is None else model
    if model is None or data is None:
        raise GeloraVizError(
            f"no study at {path}; begin one with --model and --data, for example: gelora-viz profile {path} "
            "--model minilm --data icd10cm"
        )
    from gelora_viz.study import Study

    quieten_libraries()
    return Study.create(path, model=model, data=data, **choices, seed=seed, trust_remote_code=trust_remote_code)


def estimators() -> None:
    """List the estimators of intrinsic dimension: what each reads and costs, and where it comes from.

    Example: gelora-viz estimators
    """
    rows = describe_estimators()
    cells = ([format_cell(value) for value in row.values()] for row in rows)
    print_rows(
        rows[0], cells, "Estimators; cost for n points of D features and k neighbors, beside the graph's n^2 D"
    )


def allocate(
    study: StudyFolder,
    name: Annotated[str, typer.Option(help="Name of the plan, and of its run.")] = "gelora",
    strategy: Annotated[str, typer.Option(help=f"How to choose the ranks. {list_strategies()}.")] = "gelora",
    pooling: Annotated[str, typer.Option(help="Whose profile to use.")] = "mean",
    estimator: Annotated[str, typer.Option(help="Whose dimensions to use.")] = "twonn",
    budget: Annotated[
        int | None,
        typer.Option(help="Maximum number of trainable parameters. Without a budget: GeLoRA's bare lower bound."),
    ] = None,
    budget_rank: Annotated[
        int | None, typer.Option(help="Budget equal to that of uniform LoRA with this rank.")
    ] = None,
    target_module: Annotated[
        list[str] | None,
        typer.Option(help="Module-name endings to adapt; repeat for several.  [dim]default: PEFT's choice[/dim]"),
    ] = None,
    rounding: Annotated[
        str | None,
        typer.Option(
            help="How to round the bounds: ceil, round or none.  "
            "[dim]default: ceil, and none where a budget scales them[/dim]"
        ),
    ] = None,
    min_rank: Annotated[int, typer.Option(help="Lowest rank of a matrix; with 0, some may be left out.")] = 1,
    max_rank: Annotated[int | None, typer.Option(help="Highest rank of a matrix.")] = None,
    n_texts: Annotated[
        int, typer.Option(help="Number of training texts that eva and gradient run the model on.")
    ] = 512,
    replace: Replace = False,
    trust_remote_code: TrustRemoteCode = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Choose a LoRA rank for every adapted matrix, from the dimensions or by a strategy to compare them with.

    Example: gelora-viz allocate my-study --name gelora --pooling tokens --budget-rank 4
    """
    options: dict[str, Any] = {
        "strategy": strategy, "pooling": pooling, "estimator": estimator, "budget": budget,
        "budget_rank": budget_rank, "target_modules": target_module or None, "rounding": rounding,
        "min_rank": min_rank, "max_rank": max_rank, "n_texts": n_texts, "seed": seed, "replace": replace,
        "progress": not quiet,
    }  # fmt: skip
    check_allocation(name=name, **options)
    opened = open_study(study, trust_remote_code=trust_remote_code)
    plan = opened.allocate(name, **options)
    print_table(plan.by_layer(), repr(plan))
    print(f"plan     {opened.path / 'plans' / (opened.name_of(plan) + '.json')}")
