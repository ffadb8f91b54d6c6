"""The probe network that the tests of `avsal predict` share."""

import pytest

from avsal_jax.testing.models import probe_model


@pytest.fixture(scope="session")
def probe():
    return probe_model()
