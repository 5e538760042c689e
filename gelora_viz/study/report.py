"""Write what a study has found: tables (CSV, JSON), figures (PDF, PNG), and one page that needs no network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from gelora_viz._results import format_cell, frame_to_records, write_csv, write_json, write_text
from gelora_viz._version import __version__
from gelora_viz.comparison import difference_in_words, metric_of, shorten_comparison
from gelora_viz.dimension import ESTIMATORS, DimensionProfile
from gelora_viz.study.caveats import caveats
from gelora_viz.study.findings import Findings
from gelora_viz.study.pictures import Picture, pictures

_KIND = "table"
_VENUE = "icml2026"


def write_report(found: Findings, folder: Path) -> Path:
    """Write tables/, figures/ and report.html into a study's folder; nothing is computed again."""
    tables = found.tables()
    for name, table in tables.items():
        write_csv(folder / "tables" / f"{name}.csv", table)
        write_json(folder / "tables" / f"{name}.json", _KIND, {"name": name, "rows": frame_to_records(table)})
    drawn, about = list(pictures(found)), found.origin
    for picture in drawn:
        for suffix in (".pdf", ".png"):
            picture.drawing.save(folder / "figures" / f"{picture.name}{suffix}", venue=_VENUE, about=about)
    page = _page(found, tables, drawn)
    return write_text(folder / "report.html", page)


def _page(
    found: Findings,
    tables: Mapping[str, pd.DataFrame],
    drawn: Sequence[Picture],
) -> str:
    environment = Environment(
        loader=PackageLoader("gelora_viz.study", "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = format_cell
    figures = [
        {
            "title": each.title,
            "name": each.name,
            "caption": each.drawing.caption,
            "columns": each.drawing.columns,
            "html": _interactive(each, first=number == 0),
        }
        for number, each in enumerate(drawn)
    ]
    return environment.get_template("report.html.j2").render(
        title=found.title,
        data=repr(found.data),
        settings=found.settings,
        version=__version__,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        summary=_summary(found.comparison),
        bounds=_bounds(found.profiles),
        comparison=None if found.comparison is None else shorten_comparison(found.comparison),
        comparisons=[
            {"name": name, "table": shorten_comparison(each.frame), "caption": each.caption, "notes": each.notes}
            for name, each in found.comparisons.items()
        ],
        plans={name: plan.by_layer() for name, plan in found.plans.items()},
        plan_captions={name: repr(plan) for name, plan in found.plans.items()},
        dimensions=tables["dimensions"],
        figures=figures,
        caveats=list(caveats(found)),
        estimators=[ESTIMATORS[name] for name in dict.fromkeys(tables["dimensions"]["estimator"])],
        runs=[{"name": result.spec.name, "spec": result.spec, "numbers": result.numbers} for result in found.results],
    )


def _interactive(picture: Picture, *, first: bool) -> Markup:
    """The figure as a div; plotly's own code is embedded once, with the first."""
    figure = picture.drawing.to_plotly()
    figure.update_layout(title=None, margin={"t": 40, "b": 70})  # the page has its own heading and caption
    # plotly escapes nothing itself; `to_plotly` has escaped every text that may come from data.
    return Markup(  # noqa: S704
        figure.to_html(
            full_html=False, include_plotlyjs=first, div_id=_element_id(picture.name),
            config={"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["sendDataToCloud"]},
        )
    )  # fmt: skip


def _element_id(name: str) -> str:
    """A figure's name as the id of its element, which plotly puts into the page and into its script as it is."""
    return "figure-" + re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _summary(comparison: pd.DataFrame | None) -> str:
    """Sum up the comparison soberly, in one or two sentences."""
    if comparison is None:
        return "Nothing has been fine-tuned yet; the page shows dimensions and plans."
    metric = metric_of(comparison)
    form = ".3f" if metric == "accuracy" else ".4g"
    base = comparison[comparison["verdict"] == "baseline"].iloc[0]
    said = [f"{base['run']}: {metric} {base[metric]:{form}} ({base['ci_low']:{form}} to {base['ci_high']:{form}})"]
    said += [
        f"{row['run']} {difference_in_words(row, metric)} against it: {row['verdict']}"
        for row in comparison.to_dict(orient="records")
        if row["verdict"] != "baseline"
    ]
    return "; ".join(said) + "."


def _bounds(profiles: Mapping[str, DimensionProfile]) -> pd.DataFrame:
    """GeLoRA's raw lower bound of every block, by pooling and estimator, with the difference behind it."""
    rows = []
    for pooling, profile in profiles.items():
        for estimator in (each for each in profile.estimators if ESTIMATORS[each].smooth):
            found = profile.differences(estimator)
            found = found.assign(
                pooling=pooling, estimator=estimator, lower_bound=found["difference"].clip(lower=0) + 1
            )
            columns = [
                "pooling",
                "estimator",
                "layer",
                "difference",
                "ci_low",
                "ci_high",
                "within_noise",
                "lower_bound",
            ]
            rows.append(found[columns])
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
