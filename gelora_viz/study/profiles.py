"""The profiles of a study: hidden states captured and their dimension estimated, once for every pooling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gelora_viz._checks import resolve_device
from gelora_viz._names import is_file_name
from gelora_viz._reading import remove
from gelora_viz._results import file_digest
from gelora_viz._version import __version__
from gelora_viz.activations import Activations, capture
from gelora_viz.dimension import (
    DimensionProfile,
    Estimator,
    check_enough_points,
    check_rules,
    choose_estimators,
    estimate_dimension,
)
from gelora_viz.errors import InputError, StudyError
from gelora_viz.study.arguments import check_profile
from gelora_viz.study.listing import files_in, read_all
from gelora_viz.study.record import settings_digest
from gelora_viz.study.source import StudySource

_MOST_TOKENS = 512


class StudyProfiles:
    """The folder profiles/ of a study, with activations/ that they are estimated from."""

    def __init__(self, source: StudySource) -> None:
        self._source = source

    def file(self, pooling: object) -> Path:
        """The file of a pooling's profile, which may not exist yet."""
        return self._source.path / "profiles" / f"{pooling}.json"

    def load_all(self, problems: list[str] | None = None) -> dict[str, DimensionProfile]:
        """The profiles made so far, by pooling; one that cannot be read is logged and left out."""
        return read_all(files_in(self._source.path / "profiles"), DimensionProfile.load, problems)

    def digest(self, pooling: object) -> str | None:
        """The fingerprint of the profile of a pooling that a plan or a record names; None if there is none."""
        file = self.file(pooling)
        return file_digest(file) if is_file_name(pooling) and file.exists() else None

    def estimate(
        self,
        poolings: Sequence[str],
        estimators: Sequence[str] | None,
        *,
        k: int,
        correct: bool,
        plateau: bool,
        max_points: int | None,
        max_length: int | None,
        device: str | None,
        seed: int,
        progress: bool,
    ) -> dict[str, DimensionProfile]:
        """What `Study.profile` does."""
        poolings = check_profile(
            poolings=poolings, estimators=estimators, k=k, correct=correct, plateau=plateau, max_points=max_points,
            max_length=max_length, seed=seed, progress=progress,
        )  # fmt: skip
        resolve_device(device)
        chosen = choose_estimators(estimators)
        self._check_texts(poolings, chosen, k=k, correct=correct, plateau=plateau, max_points=max_points)
        names = [each.name for each in chosen]
        profiles = {}
        for pooling in poolings:
            captured = {
                "pooling": pooling, "max_points": max_points, "max_length": max_length, "seed": seed,
                "texts": file_digest(self._source.data_file), "version": __version__,
            }  # fmt: skip
            settings = {**captured, "estimators": names, "k": k, "correct": correct, "plateau": plateau}
            file, record = self.file(pooling), self._source.record
            if not record.is_finished(f"profile {pooling}", settings, file):
                activations = self._capture(captured, device, progress=progress)
                profile = estimate_dimension(
                    activations, names, k=k, correct=correct, plateau=plateau, seed=seed, device=device,
                    progress=progress,
                )  # fmt: skip
                profile.save(file)
                record.finish(f"profile {pooling}", settings)
            profiles[pooling] = DimensionProfile.load(file)
        return profiles

    def _check_texts(
        self,
        poolings: Sequence[str],
        chosen: Sequence[Estimator],
        *,
        k: int,
        correct: bool,
        plateau: bool,
        max_points: int | None,
    ) -> None:
        """Raise `InputError`, before the model runs, where there are too few texts."""
        n_texts = len(self._source.data.texts("train"))
        check_rules(n_texts, chosen, k, correct=correct, plateau=plateau)
        for pooling in poolings:
            # How many tokens there are is known once they are captured.
            n_points = n_texts * _MOST_TOKENS if pooling == "tokens" else n_texts
            check_enough_points(min(n_points, max_points or n_points), n_texts, chosen, k)

    def _capture(self, settings: dict[str, Any], device: str | None, *, progress: bool) -> Activations:
        step, record = f"capture {settings['pooling']}", self._source.record
        folder = self._source.path / "activations" / settings["pooling"]
        if not record.is_finished(step, settings, folder / "activations.json"):
            model, tokenizer, _ = self._source.loaded
            if device is not None:
                where: Any = resolve_device(device)
                model.to(where)
            options = {name: settings[name] for name in ("pooling", "max_points", "max_length", "seed")}
            texts = self._source.data.texts("train")
            # Beside what is finished, which stays until this is too. Interrupted, the same capture goes on from here.
            unfinished = folder.with_name(f".{folder.name}-{settings_digest(settings)[:8]}.unfinished")
            for is_last in (False, True):
                try:
                    capture(model, tokenizer, texts, **options, store=unfinished, progress=progress)
                    break
                except (InputError, StudyError):
                    remove(unfinished)  # points of other weights or library versions make way, and a damaged folder
                    if is_last:
                        raise
            record.withdraw(step)
            remove(folder)
            unfinished.rename(folder)
            record.finish(step, settings)
            for other in folder.parent.glob(f".{folder.name}-*.unfinished"):
                remove(other)
        return Activations.load(folder)
