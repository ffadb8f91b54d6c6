"""Operations are tested as users run them: with XLA's optimisations."""

import pytest


@pytest.fixture(autouse=True)
def as_for_users(optimised):
    return optimised
