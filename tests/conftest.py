"""Fixtures for every test: quiet logs, TensorFlow configured as in a run, commands, servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings

from tests.processes import Command, Finished, Server, Start, free_port, wait_for

# Keras, TensorFlow and Prefect read these when they are imported.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# How fast examples are generated depends on the machine, not on the code. In a fresh checkout, the
# first one waits for Hypothesis's table of Unicode.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[1]
START_S = 120
RUN_S = 400


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="Also run the tests that take long.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured (`record_property`), in whichever process they ran."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    measured = {
        name: value
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
    }
    if measured:
        terminalreporter.section("measured")
        for name, value in sorted(measured.items()):
            terminalreporter.line(f"{name}: {value}")


# Session scope, so that a test is skipped before its other fixtures are set up.
@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> None:
    """For a test that takes long and has a shorter counterpart in `make test`."""
    if not pytestconfig.getoption("--full"):
        pytest.skip("takes minutes: make test-distributed, make test-reliability")


@pytest.fixture(scope="session")
def tensorflow_ready() -> Mapping[str, Any]:
    """Configure TensorFlow as a run on this machine's CPU does; return the profile."""
    from tasks.core.settings.execution import ExecutionSettings
    from tasks.engine.profile import configure, resolve_profile

    profile = resolve_profile(ExecutionSettings(device="cpu"))
    configure(profile)
    return profile


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This machine's environment with a separate home folder and Prefect home for the tests."""
    home = tmp_path_factory.mktemp("home")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PREFECT_") and name not in ("FASHION_MNIST_DIR", "KERAS_HOME")
    }
    return kept | {
        "HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }


@pytest.fixture(scope="session")
def fashion_flow(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Run `fashion-flow ARGS...` to its end, in an empty working folder."""
    folder = tmp_path_factory.mktemp("work")

    def run(*arguments: str | Path, **extra: str) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "flows", *map(str, arguments)],
            cwd=folder,
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start `fashion-flow ARGS...` without waiting; kill it after the test if it still runs."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str | Path, **extra: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", *map(str, arguments)],
            cwd=tmp_path,
            env=environment | extra,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextmanager
def running_server(environment: dict[str, str], port: int = 0) -> Iterator[Server]:
    """A real Prefect server on a port of the loopback interface, a free one by default."""
    port = port or free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--no-ui", "--port", str(port)],
        env=environment | {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = Server(f"http://127.0.0.1:{port}/api", process)

    def healthy() -> bool:
        try:
            return httpx.get(f"{server.url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for(healthy, START_S, "the Prefect server")
        yield server
    finally:
        if process.poll() is None:
            server.kill()


@pytest.fixture
def prefect_server(environment: dict[str, str]) -> Iterator[Server]:
    """A Prefect server for one test, which may kill it."""
    with running_server(environment) as server:
        yield server


@pytest.fixture(scope="module")
def shared_server(environment: dict[str, str]) -> Iterator[Server]:
    """A Prefect server that the tests of a file share."""
    with running_server(environment) as server:
        yield server
