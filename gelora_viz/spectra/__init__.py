"""A trained adapter in, the effective rank of every update out."""

from gelora_viz.spectra.measures import entropy_rank, numerical_rank, participation_ratio, stable_rank
from gelora_viz.spectra.spectrum import UpdateSpectrum, measure_spectra

__all__ = [
    "UpdateSpectrum",
    "entropy_rank",
    "measure_spectra",
    "numerical_rank",
    "participation_ratio",
    "stable_rank",
]
