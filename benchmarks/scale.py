"""The load that a run puts on the store and on the Prefect server.

    python benchmarks/scale.py [--replicates 3]

Starts a Prefect server (SQLite) and an S3 server (moto) on the loopback interface, runs the preset
`smoke` with a plan of one change and the given number of replicates, and runs it again with
everything cached. Prints per task run: the requests to the S3 server, the CPU time of the Prefect
server's process and the growth of its database; also the bytes stored. `docs/scale.md` says what
this means for time and money elsewhere.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx

PLAN = '[[iteration]]\nname = "dropout"\nchange = {dropout = 0.25}\n'
REQUEST = re.compile(r'"(GET|PUT|HEAD|DELETE|POST) (\S+) HTTP')
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Server:
    """A server process on the loopback interface."""

    address: str
    process: subprocess.Popen[bytes]

    def cpu(self) -> float:
        """CPU seconds of the process and its children."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(
    command: list[str], path: str, log: Path, environment: dict[str, str]
) -> Iterator[Server]:
    from tests.processes import free_port

    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            env=environment,
            stdout=file,
            stderr=file,
        )
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{server.address}{path}").raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > end:
                    sys.exit(f"{command[0]} did not start; see {log}")
                time.sleep(0.2)
        yield server
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True)
class Found:
    """What was counted up to a moment."""

    wall: float
    cpu: float
    database: int
    requests: Counter[str]
    tasks: int


def requests_in(log: Path) -> Counter[str]:
    """The number of requests of each kind in the S3 server's log."""
    kinds = []
    for method, path in REQUEST.findall(log.read_text()):
        listing = method == "GET" and "list-type=2" in path
        kinds.append("LIST" if listing else "DELETE" if method == "POST" else method)
    return Counter(kinds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replicates", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = os.environ | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PYTHONPATH": str(ROOT),
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "FASHION_FLOW_CACHE": str(folder / "cache"),
        }
        prefect = ["prefect", "server", "start", "--no-ui"]
        with (
            serving(prefect, "/api/health", folder / "prefect.log", environment) as server,
            serving(["moto.server"], "/", folder / "s3.log", environment) as s3,
        ):
            environment |= {
                "AWS_ENDPOINT_URL": s3.address,
                "PREFECT_API_URL": f"{server.address}/api",
            }
            _measure(server, folder, environment, options.replicates)


def _measure(server: Server, folder: Path, environment: dict[str, str], replicates: int) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="somebody",
        aws_secret_access_key="secret",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bucket")
    (folder / "plan.toml").write_text(PLAN)
    command = [
        sys.executable, "-m", "flows", "run", "--quiet", "--preset", "smoke",
        "--transfer-weights", "off", "--plan", str(folder / "plan.toml"),
        "--replicates", str(replicates), "--store", "s3://bucket/scale",
    ]  # fmt: skip

    def found() -> Found:
        # Prefect's server writes what it receives some seconds later.
        time.sleep(5)
        tasks = httpx.post(f"{server.address}/api/task_runs/count", json={}).json()
        size = sum(path.stat().st_size for path in (folder / "prefect").glob("prefect.db*"))
        return Found(time.monotonic(), server.cpu(), size, requests_in(folder / "s3.log"), tasks)

    moments = [found()]
    for _ in range(2):
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        moments.append(found())
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket="bucket", Prefix="scale/stages/"
    )
    objects = [item for page in pages for item in page.get("Contents", ())]
    records = [item["Size"] for item in objects if item["Key"].endswith("record.json")]
    trainings = [key for key in {item["Key"].split("/")[2] for item in objects} if _trains(key)]
    size, mean = sum(item["Size"] for item in objects), sum(records) / len(records)
    print(f"{len(records)} stages, {len(trainings)} of them trainings; {len(objects)} objects,")
    print(f"{size:,} bytes; {mean:,.0f} per record")
    for title, before, after in zip(("computed", "cached"), moments, moments[1:], strict=False):
        tasks = after.tasks - before.tasks
        requests = after.requests - before.requests
        counts = ", ".join(f"{kind} {n / tasks:.1f}" for kind, n in sorted(requests.items()))
        print(f"\n{title}: {tasks} task runs, {after.wall - before.wall - 5:.1f} s")
        print(f"S3 requests per task run: {sum(requests.values()) / tasks:.1f} ({counts})")
        cpu, growth = after.cpu - before.cpu, after.database - before.database
        print(f"Prefect server per task run: {1000 * cpu / tasks:.0f} ms of CPU, ", end="")
        print(f"{growth / tasks / 1000:.0f} kB of database")


def _trains(stage: str) -> bool:
    return stage.startswith(("baseline", "low_capacity", "overfitting", "iteration", "final"))


if __name__ == "__main__":
    main()
