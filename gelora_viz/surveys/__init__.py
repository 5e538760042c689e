"""A model is run once on two short inputs, and what it did is written down: stacks, matrices, what is reached.

In the order of a survey: weights (the matrices that a model holds), passes (which of them run, and get a gradient),
making (the survey), result.
"""

from gelora_viz.surveys.making import survey
from gelora_viz.surveys.passes import find_reached
from gelora_viz.surveys.result import ModelSurvey
from gelora_viz.surveys.weights import Weight, list_weights, matrix_shape, place_of

__all__ = ["ModelSurvey", "Weight", "find_reached", "list_weights", "matrix_shape", "place_of", "survey"]
