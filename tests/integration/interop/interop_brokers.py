"""Which brokers a test of the fleet runs on, where that is not every one."""

import pytest

ONLY_REDIS = pytest.mark.parametrize("fleet", ["redis"], indirect=True, scope="session")
ONLY_RABBITMQ = pytest.mark.parametrize("fleet", ["rabbitmq"], indirect=True, scope="session")
