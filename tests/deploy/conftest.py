"""Bundles made once a session."""

import pytest

from tests.finetune import tiny


@pytest.fixture(scope="session")
def classify() -> tiny.Made:
    """A classifier of two colours, exported; read only."""
    return tiny.made("classify")


@pytest.fixture(scope="session")
def anomaly() -> tiny.Made:
    """An anomaly detector of 20 normal images, exported; read only."""
    return tiny.made("anomaly")
