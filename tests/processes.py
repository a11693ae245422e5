"""Commands, processes and servers for the tests of real runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tasks.storage.run_log import RunLog, all_runs
from tasks.storage.store import Store

# A proxy where nothing listens: what a machine without a network sees, and a company's proxy that
# refuses this machine's own addresses.
DEAD_PROXY = dict.fromkeys(
    ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9"
)

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Finished:
    """A finished command: exit status, standard output, standard error."""

    status: int
    out: str
    err: str


# `fashion-flow ARGS...`, run to its end or only started; keywords are environment variables.
Command = Callable[..., Finished]
Start = Callable[..., subprocess.Popen[str]]

# A run that takes seconds: few images and only dense networks, because these tests do not depend
# on how well a model performs.
SMALL = (
    "--preset", "smoke", "--transfer-weights", "off",
    "--set", "subset.train=150", "--set", "subset.validation=60", "--set", "subset.test=60",
    *(
        part
        for model in ("low_capacity", "overfitting")
        for field in ("filters", "kernel_sizes", "pooled")
        for part in ("--set", f"{model}.{field}=[]")
    ),
    "--set", "low_capacity.epochs=1",
)  # fmt: skip
# A plan for it.
ONE_CHANGE = """
[[iteration]]
name = "dropout"
change = {dropout = 0.25, epochs = 1}
"""


def free_port() -> int:
    """An unused port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until a condition holds; fail after some seconds and say what was awaited."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.1)


def alive(process: int) -> bool:
    """Whether a process still runs; one that ended but was not waited for does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start code in another Python process; its output can be read."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


@dataclass
class Server:
    """A Prefect server in its own process group."""

    url: str
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill it without warning, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """A server of S3's API with a bucket `bucket`; yields environment variables for its clients.

    The clients cache objects in `folder`.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"

    def made() -> bool:
        try:
            return httpx.put(f"{address}/bucket").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    try:
        wait_for(made, 120, "the S3 server")
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "FASHION_FLOW_CACHE": str(folder),
        }
    finally:
        process.kill()
        process.wait()


def latest_run(store: Path) -> RunLog:
    """The run that started last, however it ended."""
    return all_runs(Store(str(store)))[-1]


def finished_stages(store: Path) -> list[str]:
    """The stages that the latest run has finished until now."""
    runs = all_runs(Store(str(store)))
    return [entry["stage"] for entry in runs[-1].stages()] if runs else []
