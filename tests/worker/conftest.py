"""These tests run on the event loop that a worker process has; the journeys run workers on asyncio's own."""

import asyncio
from collections.abc import Callable, Mapping

import pytest

from mailroom.process import quick_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """One loop for all tests of this folder."""
    return {"worker's loop": quick_loop}
