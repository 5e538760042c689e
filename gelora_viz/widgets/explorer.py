"""Explore a layer's points: a map of them, next to the curve of intrinsic dimensions that selects the layer.

A map is large, and no part of the state that a notebook saves: its page asks for the map that is shown, and gets
16 bits per coordinate and one byte of color per point; a text is sent when the pointer rests on its point.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from scipy.linalg import orthogonal_procrustes

from gelora_viz._checks import (
    check_cache,
    check_number,
    check_result,
    check_seed,
    check_text,
    check_whole,
    describe,
)
from gelora_viz._names import did_you_mean
from gelora_viz.activations import Activations
from gelora_viz.dimension import DimensionProfile
from gelora_viz.errors import InputError
from gelora_viz.plots import (
    Drawing,
    class_styles,
    color_scale,
    estimator_title,
    name_classes,
    rank_profile,
    umap,
    umap_of_classes,
    umap_of_values,
)
from gelora_viz.sources import check_texts
from gelora_viz.widgets.curve import describe_curve
from gelora_viz.widgets.map_maker import MapMaker, MapRequest
from gelora_viz.widgets.panel import Panel, read_module, read_style

if TYPE_CHECKING:
    from gelora_viz.maps import Projection

LONGEST_TEXT = 400
"""Letters of a text that are sent to the page; the rest is counted."""
_COLORINGS = {"label": "Label", "dimension": "Local dimension", "token": "Token", "nothing": "One color"}
_PROGRESS_STEP = 0.02
_STEPS = 65535


class Explorer(Panel):
    """A map of any layer's points, next to the intrinsic dimensions of all layers.

    The curve chooses the layer: a click on it, or the arrow keys and Enter, moves the map there, each point to its
    new place. Maps are UMAPs (`gelora_viz.project`), computed in the background when they are first asked for and
    then kept in the cache; the first is that of the layer with the largest dimension. What a UMAP shows is which
    points are neighbors, and little else: see `Projection`. Each map is turned to lie on the first one as well as a
    rotation can, so that less moves than UMAP's arbitrary directions would make.

    Args:
        activations: captured points.
        profile: their dimensions.
        texts: the captured texts, shown when the pointer rests on a point.
        labels: the class of each captured text.
        layer: layer of the first map; by default the one with the largest dimension.
        estimator: estimator of the curve; by default TwoNN, or the first of the profile's.
        n_neighbors: neighbors that UMAP looks at (see `project`).
        min_dist: how close UMAP may pack points (see `project`).
        max_points: points per layer at most (see `project`).
        seed: seed of the random choices (see `project`).
        cache: where maps are kept (see `project`).

    Raises:
        InputError: if profile, texts or labels are not of these activations, or a layer or an estimator is unknown.

    Example:
        >>> import gelora_viz as gv
        >>> model, tokenizer, _ = gv.load_model("minilm")
        >>> texts = gv.load_texts("icd10cm", max_texts=300).texts()
        >>> activations = gv.capture(model, tokenizer, texts, progress=False)
        >>> profile = gv.estimate_dimension(activations, progress=False)
        >>> explorer = gv.widgets.Explorer(activations, profile, texts=texts)
        >>> explorer.layer in activations.layers
        True
    """

    _esm = read_module("point_cloud.js", "explorer.js")
    _css = read_style("explorer.css")
    _page_calls = ("send_map",)

    layer = traitlets.Unicode().tag(sync=True)
    """Whose points are shown, or will be when their map is there: one of `layers`."""

    n_components = traitlets.Int(2).tag(sync=True)
    """2 for a plane, 3 for space."""

    color_by = traitlets.Unicode().tag(sync=True)
    """What colors stand for: one of `colorings`."""

    estimator = traitlets.Unicode().tag(sync=True)
    """Whose curve is shown: one of `estimators`."""

    layers: traitlets.List[str] = traitlets.List().tag(sync=True)
    """Names of the layers, in the curve's order."""

    colorings: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    """[name, title] of what colors can stand for."""

    estimators: traitlets.List[list[str]] = traitlets.List().tag(sync=True)
    """[name, title] of each estimator of the profile."""

    dimensions = traitlets.Dict().tag(sync=True)
    """The estimator's curve, as `describe_curve` gives it."""

    ready: traitlets.List[str] = traitlets.List().tag(sync=True)
    """Layers whose maps are there already, in as many dimensions as are shown."""

    working = traitlets.Unicode("").tag(sync=True)
    """What is computed at the moment, in words; empty if nothing is."""

    progress = traitlets.Float(0.0).tag(sync=True)
    """The share of its map's optimization that is done; 0 while neighbors are searched."""

    shown = traitlets.Dict().tag(sync=True)
    """The map that is there: version (another number for another map), layer, n_components, n_points; or empty."""

    legend = traitlets.Dict().tag(sync=True)
    """What the colors are: title, and entries [name, color, mark, count], or low, high and colors of a scale."""

    def __init__(
        self,
        activations: Activations,
        profile: DimensionProfile,
        *,
        texts: Sequence[str] | None = None,
        labels: Sequence[object] | None = None,
        layer: str | None = None,
        estimator: str | None = None,
        n_neighbors: int = 15,
        min_dist: float = 0.1,
        max_points: int = 20_000,
        seed: int = 0,
        cache: bool | str | os.PathLike[str] = True,
    ) -> None:
        check_result(activations, Activations, "activations")
        self.profile = check_result(profile, DimensionProfile, "profile")
        self._texts = None if texts is None else check_texts(texts)
        if labels is not None and (isinstance(labels, str | Mapping) or not isinstance(labels, Iterable)):
            raise InputError(f"labels is {describe(labels)}; give one label for each captured text")
        if layer is not None:
            check_text(layer, "layer", profile.layers[0])
        n_neighbors = check_whole(n_neighbors, "n_neighbors", at_least=2)
        min_dist = check_number(min_dist, "min_dist", at_least=0, at_most=1)
        max_points, seed, cache = check_whole(max_points, "max_points"), check_seed(seed), check_cache(cache)
        _check_same_origin(activations, profile, self._texts)
        if estimator is None:
            estimator = "twonn" if "twonn" in profile.estimators else profile.estimators[0]
        rows = profile.of(estimator)
        self._labels = None if labels is None else name_classes(activations.provenance, labels)
        colorings = dict(_COLORINGS)
        if self._labels is None:
            del colorings["label"]
        if activations.provenance["token"].isna().all():
            del colorings["token"]
        self._provenance = activations.provenance
        options = {"n_neighbors": n_neighbors, "min_dist": min_dist, "max_points": max_points, "seed": seed}
        self._maker = MapMaker(
            activations, options | {"cache": cache}, self._on_made, self._on_failed, self._on_progress
        )
        self._lock = threading.RLock()  # the maker's thread shows maps, the kernel's own chooses them
        self._references: dict[int, np.ndarray] = {}
        self._places = self._colors = b""
        self._classes: list[str] = []
        self._projection: Projection | None = None
        super().__init__(
            layers=profile.layers,
            estimators=[[name, estimator_title(name)] for name in profile.estimators],
            colorings=[list(each) for each in colorings.items()],
            dimensions=describe_curve(profile, estimator),
        )
        self.estimator = estimator
        self.color_by = next(iter(colorings))
        self.layer = str(rows.loc[rows["dimension"].idxmax(), "layer"]) if layer is None else layer
        self.on_msg(self._answer)
        self._choose()
        self.observe(lambda _: self._choose(), names=["layer", "n_components", "color_by"])
        self.observe(lambda _: self._show_curve(), names=["estimator"])

    @property
    def projection(self) -> Projection | None:
        """The map that is shown; None before the first is there."""
        return self._projection

    def wait(self, timeout: float | None = None) -> Explorer:
        """Wait until the map that was asked for is there; for scripts and tests.

        Raises:
            TimeoutError: if that took longer than `timeout` seconds.
        """
        if not self._maker.wait(timeout):
            raise TimeoutError(f"{self.working or 'the map'}: not done after {timeout} s")
        return self

    def describe(self) -> Drawing:
        """The map in its colors; before the first map, the curve."""
        with self._lock:
            if self._projection is None:
                return rank_profile(self.profile, estimators=[self.estimator])
            layer = self._projection.layer
            match self.shown["color_by"]:
                case "nothing":
                    return umap(self._projection)
                case "dimension":
                    return umap_of_values({layer: self._projection}, {layer: self._maker.local_of(layer)})
                case _:
                    return umap_of_classes({layer: self._projection}, {layer: self._classes})

    def send_map(self) -> None:
        """Send the map that is shown to the page."""
        with self._lock:
            if self._projection is not None:
                self.send({"map": self.shown}, buffers=[self._places, self._colors])

    @traitlets.validate("layer", "n_components", "color_by", "estimator")
    def _check(self, proposal: Any) -> Any:  # noqa: ANN401 - traitlets' own signature
        name, value = proposal["trait"].name, proposal["value"]
        choices: dict[str, list[Any]] = {
            "layer": self.layers,
            "n_components": [2, 3],
            "color_by": [each for each, _ in self.colorings],
            "estimator": [each for each, _ in self.estimators],
        }
        allowed = choices[name]
        if value not in allowed:
            hint = (
                did_you_mean(value, allowed) if isinstance(value, str) else f"give {' or '.join(map(str, allowed))}"
            )
            raise InputError(f"{name} is {value!r}; {hint}")
        return value

    def _request(self) -> MapRequest:
        return MapRequest(self.layer, self.n_components, with_local=self.color_by == "dimension")

    def _choose(self) -> None:
        """Show what was chosen, now or when it has been computed."""
        with self._lock:
            request = self._request()
            if self._maker.has(request):
                self._show(request)
            else:
                self._begin(request)

    def _begin(self, request: MapRequest) -> None:
        what = "UMAP" if request.layer not in self._maker.layers(request.n_components) else "Local dimensions"
        with self.hold_sync():
            self.working, self.progress = f"{what} of {request.layer}", 0.0
            self.ready = self._maker.layers(request.n_components)
            self.status = ""
        self._maker.ask(request)

    def _on_made(self, request: MapRequest) -> None:
        """In the maker's thread."""
        with self._lock:
            if request == self._request():
                try:
                    self._show(request)
                except Exception as error:  # noqa: BLE001 - nobody else would see it
                    self._on_failed(request, error)

    def _on_progress(self, request: MapRequest, share: float) -> None:
        """In the maker's thread; now and then is enough."""
        if share - self.progress >= _PROGRESS_STEP or share == 1:
            with self._lock:
                if request[:2] == self._request()[:2]:  # another coloring is of the same map
                    self.progress = round(share, 2)

    def _on_failed(self, request: MapRequest, error: Exception) -> None:
        """In the maker's thread."""
        with self._lock:
            if request == self._request():
                self.working = ""
                self.show_error(error)

    def _show(self, request: MapRequest) -> None:
        """Show a finished map on the page."""
        projection = self._maker.map_of(request)
        self._places = quantize(self._turn(projection))
        colors, legend = self._color(projection, self.color_by)
        self._projection, self._colors = projection, colors.astype(np.uint8).tobytes()
        with self.hold_sync():
            self.working = ""
            self.ready = self._maker.layers(request.n_components)
            self.legend = legend
            self.status = self._say_status(projection)
            self.shown = {
                "version": self.shown.get("version", 0) + 1,
                "layer": request.layer,
                "n_components": request.n_components,
                "n_points": len(projection.frame),
                "color_by": self.color_by,
            }

    def _show_curve(self) -> None:
        self.dimensions = describe_curve(self.profile, self.estimator)
        if self._projection is not None:
            self.status = self._say_status(self._projection)

    def _turn(self, projection: Projection) -> np.ndarray:
        """Centered coordinates, turned toward the first map of as many dimensions; distances stay as they are."""
        centered = projection.coordinates - projection.coordinates.mean(axis=0)
        reference = self._references.setdefault(projection.n_components, centered)
        rotation, _ = orthogonal_procrustes(centered, reference)
        return centered @ rotation

    def _color(self, projection: Projection, color_by: str) -> tuple[np.ndarray, dict[str, Any]]:
        """(n_points,) number of each point's class, or its place on the scale from 0 to 255; and the legend."""
        frame = projection.frame
        if color_by == "nothing":
            return np.zeros(len(frame)), {"title": "", "entries": []}
        if color_by == "dimension":
            values = self._maker.local_of(projection.layer)
            low, high, colors = color_scale(values)
            title = "Local dimension (MLE, 20 neighbors, smoothed)"
            scale = {"title": title, "low": low, "high": high, "colors": list(colors)}
            return np.clip(255 * (values - low) / (high - low), 0, 255).round(), scale
        self._classes = self._name_classes(projection, color_by)
        styles = class_styles(self._classes)
        last = len(styles) - 1
        place = {name: index for index, name in enumerate(styles)}
        indices = np.array([place.get(name, last) for name in self._classes])
        counts = np.bincount(indices, minlength=len(styles))
        n_others = len(set(self._classes)) - last  # classes without a look of their own share the last one
        entries = []
        for index, (name, style) in enumerate(styles.items()):
            if index == last and n_others > 1:
                entries.append([f"{n_others} others", style.color, "dot", int(counts[index])])
            else:
                said, left = _cut(name, 60)
                entries.append([said + "…" * bool(left), style.color, style.marker, int(counts[index])])
        return indices, {"title": _COLORINGS[color_by], "entries": entries}

    def _name_classes(self, projection: Projection, color_by: str) -> list[str]:
        if color_by == "token":
            return ["no token" if token is None else str(token) for token in projection.frame["token"]]
        labels = self._labels or []
        return [labels[point] for point in projection.frame["point"]]

    def _say_status(self, projection: Projection) -> str:
        of = self.profile.of(self.estimator)
        row = of[of["layer"] == projection.layer].iloc[0]
        total = projection.settings["n_points"]
        points = f"{len(projection.frame):,} points"
        if total > len(projection.frame):
            points = f"a random {len(projection.frame):,} of {total:,} points"
        return (
            f"{projection.layer}: {points}, intrinsic dimension {row['dimension']:.1f} by "
            f"{estimator_title(self.estimator)}."
        )

    def _answer(self, _widget: object, content: Any, _buffers: object) -> None:  # noqa: ANN401 - ipywidgets' own
        """Say what a point of the map is."""
        row = content.get("ask") if isinstance(content, dict) else None
        with self._lock:
            shown = self._projection
            if shown is not None and isinstance(row, int) and 0 <= row < len(shown.frame):
                self.send({"about": self._describe_point(shown, row) | {"row": row}})

    def _describe_point(self, projection: Projection, row: int) -> dict[str, Any]:
        point = projection.frame.iloc[row]
        number = int(point["text"])
        facts = [f"Text {number}"]
        if point["token"] is not None:
            position = int(self._provenance["position"].iloc[int(point["point"])])
            facts.append(f"token {_cut(str(point['token']), 40)[0]!r} at position {position}")
        if self._labels is not None:
            facts.append(f"label {_cut(self._labels[int(point['point'])], 80)[0]}")
        if self.shown.get("color_by") == "dimension":
            facts.append(f"local dimension {self._maker.local_of(projection.layer)[row]:.1f}")
        text, left = ("", 0) if self._texts is None else _cut(str(self._texts[number]), LONGEST_TEXT)
        return {"facts": facts, "text": text, "left": left}


def quantize(coordinates: np.ndarray) -> bytes:
    """(n_points, 2 or 3) coordinates as (n_points, 3) unsigned 16-bit numbers, one scale for all axes.

    The points fill the cube from 0 to 65535; a plane lies in its middle. A step is then less than a pixel of a map
    magnified 50 times.
    """
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    reach = float((high - low).max()) or 1.0
    unit = np.full((len(coordinates), 3), 0.5)
    unit[:, : coordinates.shape[1]] += (coordinates - (low + high) / 2) / reach
    return np.clip(np.rint(unit * _STEPS), 0, _STEPS).astype("<u2").tobytes()


def _cut(text: str, most: int) -> tuple[str, int]:
    """The beginning of a text, in letters that can be sent, and how many more it has."""
    begin = " ".join(text[: 2 * most].split())[:most].encode("utf-8", "replace").decode("utf-8")
    return begin, max(0, len(text) - most) if len(text) > most else 0


def _check_same_origin(activations: Activations, profile: DimensionProfile, texts: Sequence[str] | None) -> None:
    missing = [layer for layer in profile.layers if layer not in activations.layers]
    if missing:
        raise InputError(
            f"the profile has layer {missing[0]!r}, and the activations have {', '.join(activations.layers)}; give "
            "the profile that was estimated from these activations"
        )
    most = int(activations.provenance["text"].max()) if activations.n_points else 0
    if texts is not None and len(texts) <= most:
        raise InputError(
            f"{len(texts)} texts for points of texts up to number {most}, counted from 0; give the captured texts"
        )
