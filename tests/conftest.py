"""What every test may need: quiet logs, TensorFlow as a run has it, commands and servers."""

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

# Before anything imports Keras, TensorFlow or Prefect: they read these once.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

# Whether examples come quickly is the machine's affair, not the code's; the first one of a fresh
# checkout waits for Hypothesis's table of Unicode.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

ROOT = Path(__file__).resolve().parents[1]
START_S = 120
RUN_S = 400


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="Tests that take long, too.")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured (`record_property`), whichever process they ran in."""
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


# Of the session, so that a test is skipped before what it would need is made.
@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> None:
    """For a test that takes long, and of whose kind `make test` has a shorter one."""
    if not pytestconfig.getoption("--full"):
        pytest.skip("takes minutes: make test-distributed, make test-reliability")


@pytest.fixture(scope="session")
def tensorflow_ready() -> Mapping[str, Any]:
    """TensorFlow as a run on this machine's processor has it; the profile, for other processes."""
    from tasks.core.settings.execution import ExecutionSettings
    from tasks.engine.profile import configure, resolve_profile

    profile = resolve_profile(ExecutionSettings(device="cpu"))
    configure(profile)
    return profile


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """This machine's environment with a Prefect home and a home folder of the tests' own."""
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
    """Start `fashion-flow ARGS...` and go on; whatever still runs afterwards is killed."""
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
    """A Prefect server of the test's own, which it may kill."""
    with running_server(environment) as server:
        yield server


@pytest.fixture(scope="module")
def shared_server(environment: dict[str, str]) -> Iterator[Server]:
    """A Prefect server that a file's tests share."""
    with running_server(environment) as server:
        yield server
