"""A layer's points on a plane or in space, by UMAP: computed once for each layer, kept, and drawn."""

from gelora_viz.maps.projection import Projection
from gelora_viz.maps.umap import project

__all__ = ["Projection", "project"]
