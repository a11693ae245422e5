"""Fixtures of the tests that kill real processes, damage real files and fill real disks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import running_server
from tests.processes import Command, Server
from tests.reliability.support import FULL, SMALL, Size


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> Size:
    """How much the tests do."""
    return FULL if pytestconfig.getoption("--full") else SMALL


@pytest.fixture(scope="session")
def reliability_server(environment: dict[str, str]) -> Iterator[Server]:
    """A Prefect server shared by all of these tests."""
    with running_server(environment) as server:
        yield server


@pytest.fixture(scope="session")
def undisturbed(
    size: Size,
    fashion_flow: Command,
    reliability_server: Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The store of an undisturbed run, for comparison. No test changes it."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    done = fashion_flow(
        "run", *size.settings, "--store", store, PREFECT_API_URL=reliability_server.url
    )
    assert done.status == 0, done.err
    return store
