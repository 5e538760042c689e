"""A folder of results whose steps resume: texts, dimensions, plans, runs, tables, figures and one report."""

from gelora_viz.study.demo import run_demo
from gelora_viz.study.profiles import POOLINGS
from gelora_viz.study.study import Study

__all__ = ["POOLINGS", "Study", "run_demo"]
