"""The settings of a comparison that are right or wrong by themselves; torch is not loaded to check them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from gelora_viz._checks import check_number, check_seed, check_whole, describe
from gelora_viz.errors import InputError

_MOST_SEEDS = 1000


def check_n_seeds(number: object) -> int:
    """How many seeds; raises `InputError` for none, or for more than anybody trains."""
    if check_whole(number, "seeds") > _MOST_SEEDS:
        raise InputError(f"seeds is {describe(number)}; give {_MOST_SEEDS:,} at most")
    return check_whole(number, "seeds")


def check_seeds(seeds: object) -> list[int]:
    """The seeds as a list; raises `InputError` unless they are different ones, at least one and not too many."""
    if not isinstance(seeds, Iterable) or isinstance(seeds, str | bytes | Mapping):
        raise InputError(f"seeds is {describe(seeds)}; give a list of whole numbers, such as range(3)")
    listed = list(islice(seeds, _MOST_SEEDS + 1))  # a range may have more than there is memory for
    if len(listed) > _MOST_SEEDS:
        raise InputError(f"seeds are more than {_MOST_SEEDS:,}; give fewer")
    listed = [check_seed(seed) for seed in listed]
    if not listed or len(set(listed)) < len(listed):
        raise InputError(f"seeds are {listed}; give at least one, and none twice")
    return listed


def check_rates(rates: object) -> list[float]:
    """The learning rates as a list; raises `InputError` unless they are numbers between 0 and 1, at least one."""
    if not isinstance(rates, Iterable) or isinstance(rates, str | bytes | Mapping):
        raise InputError(f"learning_rates is {describe(rates)}; give a list of rates between 0 and 1")
    listed = [check_number(rate, "a learning rate", above=0, below=1) for rate in rates]
    if not listed:
        raise InputError("learning_rates is empty; give rates between 0 and 1, or leave it out")
    return listed
