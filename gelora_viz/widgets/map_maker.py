"""Maps computed in the background: one thread, one map at a time, the newest request first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from gelora_viz.activations import Activations
from gelora_viz.dimension import local_dimension
from gelora_viz.maps import Projection, project


class MapRequest(NamedTuple):
    """What a panel wants to show."""

    layer: str
    n_components: int
    with_local: bool
    """Whether it also needs the local dimensions of the layer."""


class MapMaker:
    """Makes and keeps the maps of some activations, in a thread of its own.

    Args:
        activations: the activations that are mapped.
        options: further arguments of `project`.
        on_made: called in the thread with each request that is fulfilled.
        on_failed: called in the thread with each request that is not, and why.
        on_progress: called in the thread with a request and the share of its map that is done.
    """

    def __init__(
        self,
        activations: Activations,
        options: Mapping[str, Any],
        on_made: Callable[[MapRequest], None],
        on_failed: Callable[[MapRequest, Exception], None],
        on_progress: Callable[[MapRequest, float], None],
    ) -> None:
        self._activations, self._options = activations, dict(options)
        self._on_made, self._on_failed, self._on_progress = on_made, on_failed, on_progress
        self._maps: dict[tuple[str, int], Projection] = {}
        self._local: dict[str, np.ndarray] = {}
        self._lock = threading.Lock()
        self._waiting: MapRequest | None = None
        self._thread: threading.Thread | None = None

    def has(self, request: MapRequest) -> bool:
        """Whether this can be shown at once."""
        return (request.layer, request.n_components) in self._maps and (
            not request.with_local or request.layer in self._local
        )

    def map_of(self, request: MapRequest) -> Projection:
        """A map that was made."""
        return self._maps[request.layer, request.n_components]

    def local_of(self, layer: str) -> np.ndarray:
        """(n_points of the map,) local dimensions that were estimated among its points."""
        return self._local[layer]

    def layers(self, n_components: int) -> list[str]:
        """Layers whose maps are there."""
        return [layer for layer, components in self._maps if components == n_components]

    def ask(self, request: MapRequest) -> None:
        """Make this map next; it replaces a request that has not begun."""
        with self._lock:
            self._waiting = request
            if self._thread is None:
                # Ends with the process: nobody waits for a map at the end of a session.
                self._thread = threading.Thread(target=self._work, name="gelora_viz maps", daemon=True)
                self._thread.start()

    def wait(self, timeout: float | None) -> bool:
        """Wait until nothing is left to do; false if that took longer."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._lock:
                request, self._waiting = self._waiting, None
                if request is None:
                    self._thread = None
                    return
            try:
                self._make(request)
            except Exception as error:  # noqa: BLE001 - the panel says whatever it is
                self._on_failed(request, error)
            else:
                self._on_made(request)

    def _make(self, request: MapRequest) -> None:
        key = (request.layer, request.n_components)
        if key not in self._maps:
            self._maps[key] = project(
                self._activations,
                request.layer,
                n_components=request.n_components,
                progress=lambda share: self._on_progress(request, share),
                **self._options,
            )
        if request.with_local and request.layer not in self._local:
            self._local[request.layer] = self._estimate(
                request.layer, self._maps[key].frame["point"].to_numpy(copy=True)
            )

    def _estimate(self, layer: str, rows: np.ndarray) -> np.ndarray:
        """Local dimensions among the points that are shown."""
        frame = self._activations.layer_frame
        of_layer = replace(
            self._activations,
            points={layer: self._activations[layer][rows]},
            layer_frame=frame[frame["layer"] == layer].reset_index(drop=True),
            provenance=self._activations.provenance.iloc[rows].reset_index(drop=True),
        )
        return local_dimension(of_layer, progress=False)[layer].to_numpy(float)
