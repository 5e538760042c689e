"""Results in, one `Drawing` out: it shows itself in a notebook, and saves itself for a paper.

Pictures are functions of results (`*_pictures`). A drawing is pure data (`drawing`, made of `marks`), which `screen`
draws with plotly and `paper` with matplotlib, at the sizes of a `venue`. Names are imported when they are first used,
so that a panel that only needs a color loads no renderer and no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gelora_viz._lazy import import_on_use

if TYPE_CHECKING:
    from gelora_viz.plots.drawing import Drawing as Drawing
    from gelora_viz.plots.drawing import Subplot as Subplot
    from gelora_viz.plots.estimator_pictures import estimator_heatmap as estimator_heatmap
    from gelora_viz.plots.history_pictures import dimension_history as dimension_history
    from gelora_viz.plots.history_pictures import rank_growth as rank_growth
    from gelora_viz.plots.latex import escape_latex as escape_latex
    from gelora_viz.plots.latex import latex_table as latex_table
    from gelora_viz.plots.layer_pictures import dimensions as dimensions
    from gelora_viz.plots.layer_pictures import rank_profile as rank_profile
    from gelora_viz.plots.looks import estimator_style as estimator_style
    from gelora_viz.plots.looks import estimator_title as estimator_title
    from gelora_viz.plots.map_colors import ColorScale as ColorScale
    from gelora_viz.plots.map_colors import class_styles as class_styles
    from gelora_viz.plots.map_colors import color_scale as color_scale
    from gelora_viz.plots.map_colors import name_classes as name_classes
    from gelora_viz.plots.map_pictures import umap as umap
    from gelora_viz.plots.map_pictures import umap_of_classes as umap_of_classes
    from gelora_viz.plots.map_pictures import umap_of_values as umap_of_values
    from gelora_viz.plots.marks import PALETTE as PALETTE
    from gelora_viz.plots.marks import Cells as Cells
    from gelora_viz.plots.marks import Series as Series
    from gelora_viz.plots.marks import Style as Style
    from gelora_viz.plots.marks import style_number as style_number
    from gelora_viz.plots.plan_pictures import plans as plans
    from gelora_viz.plots.run_pictures import comparison as comparison
    from gelora_viz.plots.run_pictures import training as training
    from gelora_viz.plots.scaling_pictures import scaling as scaling
    from gelora_viz.plots.size_pictures import overview as overview
    from gelora_viz.plots.size_pictures import score_by_size as score_by_size
    from gelora_viz.plots.size_pictures import utilisation as utilisation
    from gelora_viz.plots.spectrum_pictures import singular_values as singular_values
    from gelora_viz.plots.venue import check_format as check_format
    from gelora_viz.plots.venue import check_venue as check_venue

_FILES = {
    "drawing": ("Drawing", "Subplot"),
    "estimator_pictures": ("estimator_heatmap",),
    "history_pictures": ("dimension_history", "rank_growth"),
    "latex": ("escape_latex", "latex_table"),
    "layer_pictures": ("dimensions", "rank_profile"),
    "looks": ("estimator_style", "estimator_title"),
    "map_colors": ("ColorScale", "class_styles", "color_scale", "name_classes"),
    "map_pictures": ("umap", "umap_of_classes", "umap_of_values"),
    "marks": ("PALETTE", "Cells", "Series", "Style", "style_number"),
    "plan_pictures": ("plans",),
    "run_pictures": ("comparison", "training"),
    "scaling_pictures": ("scaling",),
    "size_pictures": ("overview", "score_by_size", "utilisation"),
    "spectrum_pictures": ("singular_values",),
    "venue": ("check_format", "check_venue"),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}

__all__ = [name for name in _FILE_OF if not name.startswith("check_")]  # checks are for other rooms


__getattr__ = import_on_use(__name__, _FILE_OF)


def __dir__() -> list[str]:
    return sorted(__all__)
