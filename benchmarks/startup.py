"""Wall-clock seconds of commands that compute nothing, as a user waits for them.

    python benchmarks/startup.py [--rounds 5] [--earlier-runs 0]

A run of the preset `smoke`, which has every stage, fills a store from synthetic images.
`--earlier-runs` adds that many copies of its log. Then each command runs in a new process:
`--help`, `plan`, `results`, and the same run again, which finds every stage in the store and
writes its report, once with a temporary Prefect server and once with a running one. The table
shows the median of each command and its limit; the exit status is 1 if a median exceeds its limit.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from work import ROOT, without_prefect

RUN = ("run", "--preset", "smoke", "--dataset", "synthetic", "--quiet")
ANSWER_S = 60.0
SAID_LINES = 15
# The arguments, whether a server is running, and the limit in seconds.
COMMANDS: Mapping[str, tuple[Sequence[str], bool, float]] = {
    "--help": (("--help",), False, 1.5),
    "plan": (("plan", *RUN[1:-1]), False, 1.5),
    "results": (("results",), False, 1.5),
    "run, all cached, temporary server": (RUN, False, 20.0),
    "run, all cached, running server": (RUN, True, 6.0),
}


def command(arguments: Sequence[str], store: Path) -> list[str]:
    """The command line of `fashion-flow` with these arguments on a store."""
    place = [] if arguments == ("--help",) else ["--store", str(store)]
    return [sys.executable, "-m", "flows", *arguments, *place]


def seconds(arguments: Sequence[str], store: Path, environment: Mapping[str, str]) -> float:
    """The wall-clock time of a command; ends the benchmark if the command fails.

    It runs in the store's parent folder, which has no configuration file for Prefect.
    """
    line = command(arguments, store)
    began = time.perf_counter()
    done = subprocess.run(
        line, cwd=store.parent, env=environment, check=False, capture_output=True, text=True
    )
    took = time.perf_counter() - began
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-SAID_LINES:])
        raise SystemExit(
            f"error: {' '.join(line)} ended with status {done.returncode}. The end of its "
            f"output:\n{said}"
        )
    return took


@contextmanager
def server(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """A server started by `fashion-flow ui`, which runs find by themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = [sys.executable, "-m", "flows", "ui", "--port", str(port)]
    process = subprocess.Popen(
        arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("Prefect UI:"):
            raise SystemExit("error: the server did not start.")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            process.kill()


def add_runs(store: Path, number: int) -> None:
    """Copy the log of the store's only run, as if it had run more often."""
    (only,) = (store / "runs").iterdir()
    for index in range(number):
        shutil.copytree(only, store / "runs" / f"20260101-000000-{index:04x}")


def main() -> None:
    """Print a table of medians; exit with status 1 if one exceeds its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--earlier-runs", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        # The first run creates Prefect's database, as it does for a user.
        environment = without_prefect() | {"PREFECT_HOME": folder, "PYTHONPATH": str(ROOT)}
        print(f"the first run computes everything: {seconds(RUN, store, environment):.1f} s")
        add_runs(store, options.earlier_runs)
        found: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(options.rounds):
            for name, (arguments, served, _limit) in COMMANDS.items():
                if not served:
                    found[name].append(seconds(arguments, store, environment))
        with server(environment, Path(folder)):
            for name, (arguments, served, _limit) in COMMANDS.items():
                if served:
                    rounds = range(options.rounds)
                    found[name] += [seconds(arguments, store, environment) for _ in rounds]
    print(f"{'command':<36}{'median':>8}{'min':>8}{'max':>8}{'limit':>8}")
    slow = False
    for name, (_arguments, _served, limit) in COMMANDS.items():
        middle = median(found[name])
        slow |= middle > limit
        line = f"{name:<36}{middle:>8.2f}{min(found[name]):>8.2f}{max(found[name]):>8.2f}"
        print(f"{line}{limit:>8.1f}")
    sys.exit(int(slow))


if __name__ == "__main__":
    main()
