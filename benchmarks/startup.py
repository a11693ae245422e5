"""Seconds of the commands that compute nothing, by the clock, as a user waits for them.

    python benchmarks/startup.py [--rounds 5] [--earlier-runs 0]

A store is filled by one run of the preset `smoke` (which has every stage) on drawn images, and
`--earlier-runs` copies of that run's log are laid beside it. Then every command is run as a process
of its own: `--help`, `plan`, `results`, and the run again, which finds every stage in the store and
writes its report, with a temporary server of its own and against a server that is there. The
medians stand beside what is wanted; the exit status is 1 where one is above it.
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
# What is timed, whether a server is there, and the most seconds that are wanted.
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
    """How long a command takes, from its start to its end; one that fails ends everything.

    It is run beside the store, where no file says which server Prefect is to use.
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
            f"error: {' '.join(line)} ended with status {done.returncode} after:\n{said}"
        )
    return took


@contextmanager
def server(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """A server of `fashion-flow ui`, which runs find by themselves."""
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
    """Lay copies of the log of the store's run beside it, as if it had run more often."""
    (only,) = (store / "runs").iterdir()
    for index in range(number):
        shutil.copytree(only, store / "runs" / f"20260101-000000-{index:04x}")


def main() -> None:
    """Print a table of medians; end with status 1 where one is above what is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--earlier-runs", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        # Prefect's own database is made by the first run, as it is for a user.
        environment = without_prefect() | {"PREFECT_HOME": folder, "PYTHONPATH": str(ROOT)}
        print(f"the first run computes everything: {seconds(RUN, store, environment):.1f} s")
        add_runs(store, options.earlier_runs)
        found: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(options.rounds):
            for name, (arguments, served, _wanted) in COMMANDS.items():
                if not served:
                    found[name].append(seconds(arguments, store, environment))
        with server(environment, Path(folder)):
            for name, (arguments, served, _wanted) in COMMANDS.items():
                if served:
                    rounds = range(options.rounds)
                    found[name] += [seconds(arguments, store, environment) for _ in rounds]
    print(f"{'command':<36}{'seconds':>8}{'least':>8}{'most':>8}{'wanted':>8}")
    slow = False
    for name, (_arguments, _served, wanted) in COMMANDS.items():
        middle = median(found[name])
        slow |= middle > wanted
        line = f"{name:<36}{middle:>8.2f}{min(found[name]):>8.2f}{max(found[name]):>8.2f}"
        print(f"{line}{wanted:>8.1f}")
    sys.exit(int(slow))


if __name__ == "__main__":
    main()
