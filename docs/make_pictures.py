"""Draw the README's pictures from a finished study: python docs/make_pictures.py studies/demo."""

from __future__ import annotations

import sys
from pathlib import Path

from gelora_viz import Study
from gelora_viz.plots import describe_comparison, describe_dimensions, describe_rank_profile, save_paper_figure

PICTURES = Path(__file__).parent / "pictures"


def main(folder: str) -> None:
    """Write the main picture, the comparison of estimators and that of runs as PNG."""
    study = Study(folder)
    profiles, plan = study.profiles(), study.plan("gelora")
    spectrum = next(result.spectrum for result in study.results() if result.spec.name == "gelora")
    drawings = {
        "rank_profile": describe_rank_profile(profiles["tokens"], plan, spectrum, estimators=["twonn", "mle"]),
        "dimensions": describe_dimensions(profiles),
        "comparison": describe_comparison(study.compare()),
    }
    for name, drawing in drawings.items():
        save_paper_figure(drawing, PICTURES / f"{name}.png", venue="icml2024", width="text")


if __name__ == "__main__":
    main(*sys.argv[1:])
