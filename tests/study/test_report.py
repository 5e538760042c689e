"""The report is one safe page that needs no network, and its tables and figures hold the study's own numbers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from small_study import PROFILING, QUICK, launch_here, write_csv

from gelora_viz import DimensionProfile, Study
from gelora_viz.errors import InputError
from gelora_viz.spectra import SpectrumHistory, UpdateSpectrum
from gelora_viz.study import runs
from gelora_viz.study.caveats import caveats

SCRIPT = "<script>alert(1)</script>"
BACKWARDS = "\u202e\u05e9\u05dc\u05d5\u05dd ''"
"""A mark that turns the direction of writing, and Hebrew."""
LONG = f"{SCRIPT} {BACKWARDS} " + 25_000 * "word "
MEGABYTE = 2**20


class Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.words, self._hidden = [], [], False
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._hidden = self._hidden and tag not in ("script", "style")

    def handle_data(self, data):
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def reported(finished_study, tmp_path_factory):
    study = Study.open(shutil.copytree(finished_study, tmp_path_factory.mktemp("reports") / "study"))
    path = study.report()
    return study, Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile(tiny_folder, labelled_texts, tmp_path_factory):
    """A study whose model folder, data file, labels and texts hold HTML."""
    texts, labels = labelled_texts
    folder = tmp_path_factory.mktemp("hostile")
    named = "<img src=x onerror=alert(1)>"
    shutil.copytree(tiny_folder("bert"), folder / named)
    data = write_csv(
        folder / f"{named}.csv",
        [LONG, *(f"{text} {SCRIPT}" for text in texts[1:150])],
        [f"{label}{SCRIPT}{BACKWARDS}" for label in labels[:150]],
    )
    study = Study.create(folder / "study", model=str(folder / named), data=data)
    study.profile(**{**PROFILING, "poolings": ["mean"]})
    study.allocate("uniform", strategy="uniform", budget_rank=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "launch", launch_here)
        study.finetune("uniform", **QUICK)
    return study, study.report().read_text(encoding="utf-8")


def test_the_page_is_self_contained_and_small_enough_to_mail(reported):
    study, page = reported
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data"):
            assert "//" not in (attributes.get(name) or ""), (tag, attributes)
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert (study.path / "report.html").stat().st_size < 8 * MEGABYTE


def test_plotly_s_code_is_embedded_once_and_every_figure_drawn(reported):
    study, page = reported
    source = (study.path / "report.html").read_text(encoding="utf-8")
    figures = sorted(file.stem for file in (study.path / "figures").glob("*.pdf"))
    assert source.count("plotly.js v") == 1
    assert (
        sorted(attributes["id"][7:] for _, attributes in page.tags if attributes.get("id", "").startswith("figure-"))
        == figures
    )


def test_the_page_says_what_was_compared_and_how_it_ended(reported):
    study, page = reported
    table = study.tabulate_results().set_index("run")
    assert f"uniform: accuracy {table.loc['uniform', 'accuracy']:.3f}" in page.text
    for name in ("frozen", "gelora"):
        assert table.loc[name, "verdict"] in page.text
    assert "texts.csv" in page.text
    assert f"{study.plan('gelora').n_parameters:,}" in page.text


def test_the_page_warns_of_noise_few_texts_one_seed_and_the_reconstructed_scaling(reported):
    study, page = reported
    noisy = int(study.plan("gelora").by_layer()["within_noise"].sum())
    assert f"Plan gelora: in {noisy} of 3 blocks the change of dimension is inside the noise" in page.text
    assert "Only " in page.text
    assert "training texts: intervals are wide" in page.text
    assert "each accuracy comes from one seed" in page.text
    assert "our reconstruction" in page.text


def test_runs_inside_the_noise_are_named_and_others_are_not(finished_study):
    found = Study.open(finished_study).findings()
    frame = pd.DataFrame(
        {
            "run": ["a", "b", "c", "d"],
            "accuracy": [0.5, 0.9, 0.51, 0.52],
            "verdict": ["baseline", "better than the baseline", "inside the noise", "inside the noise"],
        }
    )
    said = [each for each in caveats(replace(found, comparison=frame)) if "inside the noise on" in each]
    (sentence,) = said
    assert sentence.startswith("c, d against a: inside the noise on these test texts, in accuracy. ")
    clear = frame[frame["verdict"] != "inside the noise"]
    assert not [each for each in caveats(replace(found, comparison=clear)) if "inside the noise on" in each]


def test_few_points_are_named_where_duplicates_left_few(finished_study):
    found = Study.open(finished_study).findings()
    profile = found.profiles["mean"]
    layer = profile.layers[1]
    few = profile.frame.assign(n_points=[40 if each == layer else 10_000 for each in profile.frame["layer"]])
    said = " ".join(caveats(replace(found, profiles={"mean": replace(profile, frame=few)})))
    assert f"Pooling mean: few points were left to estimate from in {layer} (40);" in said
    whole = profile.frame.assign(n_points=10_000)
    assert "points were left" not in " ".join(
        caveats(replace(found, profiles={"mean": replace(profile, frame=whole)}))
    )


def test_a_noisy_block_is_counted_and_a_clear_one_is_not(copied_study):
    file = copied_study / "plans" / "gelora.json"
    document = json.loads(file.read_text())
    for row in document["ranks"]:
        row["within_noise"] = row["depth"] == 2
    file.write_text(json.dumps(document))
    page = Page(Study.open(copied_study).report().read_text(encoding="utf-8"))
    assert "in 1 of 3 blocks the change of dimension is inside the noise" in page.text


def test_every_table_is_written_as_csv_and_json_with_the_same_cells(reported):
    study, _ = reported
    names = {file.stem for file in (study.path / "tables").glob("*.csv")}
    assert names == {file.stem for file in (study.path / "tables").glob("*.json")}
    assert names == {
        "dimensions", "dimension_differences", "plans", "comparison", "runs", "effective_ranks", "training",
        "predictions",
    }  # fmt: skip
    for name in names:
        from_csv = pd.read_csv(study.path / "tables" / f"{name}.csv", keep_default_na=False, na_values=[""])
        rows = json.loads((study.path / "tables" / f"{name}.json").read_text())["rows"]
        from_json = pd.DataFrame(rows)
        assert list(from_csv) == list(from_json)
        assert len(from_csv) > 0
        for column in from_csv:
            if pd.api.types.is_numeric_dtype(from_csv[column]) and from_csv[column].dtype != bool:
                expected = pd.to_numeric(from_json[column])
                pd.testing.assert_series_equal(from_csv[column], expected, check_dtype=False)
            else:
                both = zip(from_csv[column], from_json[column], strict=True)
                assert all((pd.isna(left) and pd.isna(right)) or str(left) == str(right) for left, right in both)


def test_tables_hold_the_study_s_own_numbers(reported):
    study, _ = reported
    tables = study.path / "tables"
    dimensions = pd.read_csv(tables / "dimensions.csv")
    for pooling, profile in study.profiles().items():
        found = dimensions[dimensions["pooling"] == pooling]["dimension"].to_numpy()
        assert found == pytest.approx(profile.frame["dimension"].to_numpy())
    comparison = pd.read_csv(tables / "comparison.csv")
    assert comparison["accuracy"].to_numpy() == pytest.approx(study.tabulate_results()["accuracy"].to_numpy())
    plans = pd.read_csv(tables / "plans.csv")
    assert plans.groupby("plan")["n_parameters"].sum().to_dict() == {
        name: plan.n_parameters for name, plan in study.plans().items()
    }


def test_every_figure_is_there_as_pdf_and_png(reported):
    study, _ = reported
    pdf = {file.stem: file.read_bytes()[:5] for file in (study.path / "figures").glob("*.pdf")}
    png = {file.stem: file.read_bytes()[:8] for file in (study.path / "figures").glob("*.png")}
    assert (
        set(pdf)
        == set(png)
        == {
            "rank_profile_gelora",
            "rank_profile_uniform",
            "plans",
            "dimensions",
            "comparison",
            "training",
            "score_by_size",
            "utilisation",
            "estimators_mean",
            "estimators_tokens",
            "singular_values_gelora",
            "singular_values_uniform",
        }
    )
    assert set(pdf.values()) == {b"%PDF-"}
    assert set(png.values()) == {b"\x89PNG\r\n\x1a\n"}


def test_spectra_recorded_over_training_are_drawn(copied_study):
    run = copied_study / "runs" / "gelora"
    spectrum = UpdateSpectrum.load(run / "spectrum.json")
    SpectrumHistory({1: spectrum, 5: spectrum}).save(run / "spectra.json")
    Study.open(copied_study).report()
    assert (copied_study / "figures" / "rank_growth_gelora.pdf").exists()
    assert not (copied_study / "figures" / "rank_growth_uniform.pdf").exists()


def test_html_in_names_labels_and_texts_is_shown_and_not_run(hostile):
    _, source = hostile
    assert SCRIPT not in source
    assert "<img src=x" not in source
    page = Page(source)
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "<img src=x onerror=alert(1)>.csv" in page.text


def test_a_text_of_100_kilobytes_neither_swells_the_page_nor_gets_lost(hostile):
    study, source = hostile
    assert len(LONG) > 100_000
    assert LONG.strip() in {text.strip() for text in study.data.texts()}
    assert len(source) < 8 * MEGABYTE
    assert LONG[:200] not in source
    labels = set(pd.read_csv(study.path / "tables" / "predictions.csv")["label"])
    assert labels <= {f"{label}{SCRIPT}{BACKWARDS}" for label in range(3)}


def test_html_in_the_names_of_layers_is_shown_and_not_run(copied_study):
    for file in (copied_study / "profiles").glob("*.json"):
        file.write_text(file.read_text().replace("encoder.layer.0", SCRIPT))
    study = Study.open(copied_study)
    assert any("<script" in layer for layer in DimensionProfile.load(copied_study / "profiles" / "mean.json").layers)
    source = study.report().read_text(encoding="utf-8")
    assert "<script>alert(1)" not in source


def test_a_study_with_nothing_but_a_profile_has_a_report_too(copied_study):
    for folder in ("plans", "runs"):
        shutil.rmtree(copied_study / folder)
    page = Page(Study.open(copied_study).report().read_text(encoding="utf-8"))
    assert "Nothing has been fine-tuned yet" in page.text
    figures = {file.stem for file in (copied_study / "figures").glob("*.pdf")}
    assert figures == {
        *("rank_profile_mean", "rank_profile_tokens", "dimensions", "estimators_mean", "estimators_tokens"),
    }
    assert {file.stem for file in (copied_study / "tables").glob("*.csv")} == {"dimensions", "dimension_differences"}


def test_a_study_without_a_profile_has_nothing_to_report(tiny_folder, csv_file, tmp_path):
    study = Study.create(tmp_path / "study", model=str(tiny_folder("bert")), data=csv_file)
    with pytest.raises(InputError, match=r"no dimension profile yet.* run the step profile"):
        study.report()
