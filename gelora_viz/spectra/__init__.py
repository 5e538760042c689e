"""An adapter in, the effective rank of every update out: after training, while it trains, and in fewer parameters."""

from gelora_viz.spectra.compressed import Compression
from gelora_viz.spectra.compression import compress
from gelora_viz.spectra.histories import DimensionHistory, SpectrumHistory
from gelora_viz.spectra.measures import entropy_rank, numerical_rank, participation_ratio, stable_rank
from gelora_viz.spectra.recorders import DEFAULT_EVERY, DimensionRecorder, SpectrumRecorder
from gelora_viz.spectra.spectrum import SPECTRUM_COLUMNS, UpdateSpectrum, measure_spectra

__all__ = [
    "DEFAULT_EVERY",
    "SPECTRUM_COLUMNS",
    "Compression",
    "DimensionHistory",
    "DimensionRecorder",
    "SpectrumHistory",
    "SpectrumRecorder",
    "UpdateSpectrum",
    "compress",
    "entropy_rank",
    "measure_spectra",
    "numerical_rank",
    "participation_ratio",
    "stable_rank",
]
