import pytest
from plot_results import make_plan, make_profile, make_spectrum


@pytest.fixture
def profile():
    return make_profile()


@pytest.fixture
def plan():
    return make_plan()


@pytest.fixture
def spectrum(plan):
    return make_spectrum(plan)
