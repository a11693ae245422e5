"""The whole notebook as a plain script and as the flow, alternately on the same machine.

    python benchmarks/run.py [--rounds 3] [--save rounds.json] [--apart]
    python benchmarks/run.py --rounds 0 --save rounds.json

The script is `benchmarks/notebook_script.py`. The flow is `fashion-flow run --rule notebook --set
transfer.variant=as_notebook`, otherwise with its defaults, with an empty store and an empty
Prefect home, so it starts a temporary server. Both get the same images (Fashion-MNIST if it is on
this machine, otherwise synthetic ones) and the same file of random VGG16 weights. Both must train
the same networks for the same number of epochs on the same number of images; otherwise the
benchmark ends with an error. Each side runs in a new process; the sides take turns in going first.
The tables show medians.

Wall time and CPU time are those of the whole process, including its start, its end and its
children (the flow's server); peak memory is that of the process without children. The flow
computes two stages at the same time in one process. So the seconds of a part are the sum over its
stages, which overlap with others, and CPU time and memory per stage cannot be measured there. For
these, `--apart` runs the stages once more, one after the other, each in a new process that has
imported TensorFlow. Orchestration is the time during which no stage computes, according to the
run's log.

Where the sides do different work for the same models: the flow trains iteration 1 from the
overfitting model's epoch 11, and computes the outputs of VGG16's frozen layers once instead of in
each epoch. Only the flow looks for images in two splits, hashes and stores every result and a
checkpoint per epoch, scores training and validation images after training, stores predictions,
makes decisions, tests hypotheses and writes a report.

`--save FILE` stores every round. If FILE exists, the new rounds are added to it, and all of them
count. At full size, the script takes more than half an hour on two cores; the flow takes less.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

# This process must not import TensorFlow, see apart.py.
from apart import MIB, ApartRun, Cost
from work import ROOT, Size, Work, prepared

from flows.recipe.contents import build
from tasks.core.errors import FashionFlowError
from tasks.core.records import Outcome, Stage
from tasks.engine.profile import resolve_profile
from tasks.sources.fashion_mnist import find_fashion_mnist
from tasks.storage.run_log import RunLog, find_run
from tasks.storage.store import Store

SCRIPT, FLOW = SIDES = ("script", "flow")
SAMPLE_S = 2.0
TAIL = 20

PARTS = {
    "data": "data and plots",
    "baseline": "baseline",
    "low_capacity": "low capacity",
    "overfitting": "overfitting",
    **{f"iteration_{number}": f"iteration {number}" for number in range(1, 10)},
    "final": "final",
    "vgg16_frozen": "VGG16 frozen",
    "vgg16_fine_tuned": "VGG16 fine-tuned",
    "rest": "the rest",
}
DATA_STAGES = ("load", "explore", "subset", "guard", "look", "preprocess")
COMPUTING = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) INFO +(\S+) +Running ")
# What must be equal if the sides did the same work.
TRAINING = ("params", "epochs", "batch_size", "train_samples")

Measurement = dict[str, Any]


def measured(side: str, work: Work, folder: Path) -> Measurement:
    """Run one side in an empty folder."""
    if side == SCRIPT:
        program = ["benchmarks/notebook_script.py", *work.script_options, "--out", str(folder)]
        program[0] = str(ROOT / program[0])
    else:
        program = ["-m", "flows", "run", *work.flow_options, "--store", str(folder / "store")]
    environment = work.environment | {"PREFECT_HOME": str(folder / "prefect")}
    load, began = os.getloadavg()[0], time.time()
    found = timed(side, [sys.executable, *program], folder, environment)
    found |= {
        "side": side,
        "began": datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
        "load_before": load,
        "code": code(),
    }
    if side == SCRIPT:
        return found | of_script(found, json.loads((folder / "measured.json").read_text()))
    return found | of_flow(found, find_run(Store(str(folder / "store")), None), began)


def timed(
    side: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Measurement:
    """Wall and CPU seconds of a command with its children; peak MiB without and with children.

    The children's memory is sampled every two seconds.
    """
    output = folder / "output.txt"
    children = [0]
    clock = time.perf_counter()
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        with watched(process.pid, children):
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    wall = time.perf_counter() - clock
    if process.returncode:
        tail = "\n".join(output.read_text(errors="replace").splitlines()[-TAIL:])
        sys.exit(
            f"error: the {side} ended with status {process.returncode} after {wall:.0f} s, "
            f"expected 0. The end of its output:\n{tail}"
        )
    peak = usage.ru_maxrss / 1024
    return {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": peak,
        "peak_with_children": peak + max(children) / MIB,
    }


@contextmanager
def watched(pid: int, seen: list[int]) -> Iterator[None]:
    """Sample the memory of a process's children, in bytes, and append it to `seen`."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE_S):
            with suppress(psutil.Error):
                children = psutil.Process(pid).children(recursive=True)
                seen.append(sum(child.memory_info().rss for child in children))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def of_script(whole: Measurement, found: Measurement) -> Measurement:
    """What the script measured; the rest is the start of Python and its imports."""
    spent = found["parts"].values()
    rest = {name: whole[name] - sum(part[name] for part in spent) for name in ("wall", "cpu")}
    return {"parts": found["parts"] | {"rest": rest}, "models": found["models"]}


def of_flow(whole: Measurement, run: RunLog, began: float) -> Measurement:
    """What the run's log says about its stages, and about the time when none computes."""
    lines = run.stages()
    missing = [line["stage"] for line in lines if line["state"] in ("cached", "skipped")]
    if missing:
        sys.exit(
            f"error: {', '.join(missing)} of the flow were not computed; expected every stage."
        )
    parts: dict[str, dict[str, float]] = {}
    for line in lines:
        part = parts.setdefault(part_of(line["stage"]), {"wall": 0.0})
        part["wall"] += line["seconds"]
    starts = began_computing(run)
    spans = sorted(
        (starts[line["stage"]], starts[line["stage"]] + line["seconds"]) for line in lines
    )
    first, last = spans[0][0], max(end for _, end in spans)
    before, after = first - began, began + whole["wall"] - last
    between = last - first - covered(spans)
    record = run.record("results")
    assert record, "every stage was computed"
    rows = run.store.table(record, "results").to_pylist()
    return {
        "parts": parts,
        "models": {
            row["name"]: {name: row[name] for name in (*TRAINING, "test_accuracy")}
            for row in rows
            if row["trainings"]
        },
        "idle": {"before": before, "between": between, "after": after},
        "stages": len(lines),
    }


def began_computing(run: RunLog) -> dict[str, float]:
    """When the last attempt of each stage began to compute, in Unix time."""
    found = {}
    for line in run.log.read_text().splitlines():
        if match := COMPUTING.match(line):
            at = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC)
            found[match[2]] = at.timestamp()
    return found


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds covered by at least one of the spans, which are sorted by their beginnings."""
    total, until = 0.0, float("-inf")
    for begin, end in spans:
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def part_of(stage: str) -> str:
    """The part of the notebook that a stage of the flow belongs to."""
    if stage in DATA_STAGES:
        return "data"
    if stage.startswith(("vgg16_weights", "vgg16_block")):
        return "vgg16_frozen"
    name = stage.removeprefix("test_").removeprefix("curves_").replace("gate_", "iteration_")
    return name if name in PARTS else "rest"


def apart(work: Work, folder: Path) -> dict[str, dict[str, float]]:
    """Wall and CPU seconds of each part's stages, and the largest peak of one of them."""
    parts: dict[str, dict[str, float]] = {}

    def seen(stage: Stage, _inputs: Mapping[str, Outcome], _outcome: Outcome, cost: Cost) -> None:
        part = parts.setdefault(part_of(stage.name), dict.fromkeys(asdict(cost), 0.0))
        part["wall"] += cost.wall
        part["cpu"] += cost.cpu
        part["peak"] = max(part["peak"], cost.peak)

    settings = work.settings
    build(ApartRun(folder / "store", resolve_profile(settings.execution), seen), settings)
    return parts


def code() -> str:
    """A digest of the code of the flow and the script."""
    paths = [*(ROOT / "flows").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")]
    digest = hashlib.sha256()
    for path in (*sorted(paths), ROOT / "benchmarks/notebook_script.py"):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def machine() -> dict[str, Any]:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in ("tensorflow", "keras", "numpy", "prefect")},
    }


def main() -> None:
    options = arguments()
    size = Size(options.train, options.validation, options.test, options.epochs, options.transfer)
    real = find_fashion_mnist(os.environ, Path.cwd())
    wanted = {
        "size": asdict(size),
        "machine": machine(),
        "data": "Fashion-MNIST" if real else "drawn images",
    }
    saved: dict[str, Any] = {"measurements": [], "apart": {}}
    if options.save and options.save.exists():
        saved = loaded(options.save)
    if options.rounds or options.apart:
        saved |= agreed(saved, wanted, options.save)
        with tempfile.TemporaryDirectory(prefix="fashion-flow-") as folder:
            measure(prepared(size, real, Path(folder)), options, saved)
    if not saved["measurements"]:
        sys.exit(
            "error: nothing was measured; expected --rounds 1 or more, or saved rounds (--save)."
        )
    show(saved)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="0 shows the saved rounds")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="both by default")
    for name, default in (("train", 8000), ("validation", 2000), ("test", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default, help="number of images")
    parser.add_argument("--epochs", type=int, help="upper limit for the epochs of each training")
    parser.add_argument("--no-transfer", dest="transfer", action="store_false")
    parser.add_argument(
        "--apart", action="store_true", help="run each stage once more in its own process"
    )
    parser.add_argument("--save", type=Path, help="JSON file to which the rounds are added")
    return parser.parse_args()


def loaded(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        for name in ("size", "machine", "data", "measurements", "apart"):
            found[name]
    except (OSError, ValueError, KeyError, TypeError):
        sys.exit(f"error: {path}: expected a file written by --save; name another file.")
    return dict(found)


def agreed(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], path: Path | None
) -> Mapping[str, Any]:
    """`wanted`, if it agrees with the saved rounds."""
    for name, value in wanted.items():
        if name in saved and saved[name] != value:
            sys.exit(
                f"error: {path} was measured with another {name}: {saved[name]}, expected {value}. "
                "Name another file with --save, or show this one with --rounds 0."
            )
    return wanted


def measure(work: Work, options: argparse.Namespace, saved: dict[str, Any]) -> None:
    """Measure rounds and save each as soon as it is done."""

    def keep() -> None:
        if options.save:
            whole = options.save.with_name(f"{options.save.name}.part")
            whole.write_text(json.dumps(saved, indent=1))
            whole.replace(options.save)

    done = len(saved["measurements"])
    for number in range(options.rounds):
        for side in options.sides[:: -1 if (done // 2 + number) % 2 else 1]:
            with tempfile.TemporaryDirectory(prefix="fashion-flow-") as folder:
                found = measured(side, work, Path(folder))
            saved["measurements"].append(found)
            keep()
            print(
                f"round {number + 1}, {side}: {found['wall']:,.1f} s, {found['cpu']:,.1f} s of "
                f"CPU, peak {found['peak']:,.0f} MiB (load average before: "
                f"{found['load_before']:.1f})",
                flush=True,
            )
    if options.apart:
        print("each stage in its own process:", flush=True)
        os.environ.update(work.environment)
        with tempfile.TemporaryDirectory(prefix="fashion-flow-") as folder:
            saved["apart"] = apart(work, Path(folder))
        keep()


def show(saved: Mapping[str, Any]) -> None:
    sides = {
        side: [found for found in saved["measurements"] if found["side"] == side] for side in SIDES
    }
    print()
    for name, value in saved["machine"].items():
        print(f"{name} {value}", end="; " if name != "prefect" else "\n")
    size = saved["size"]
    print(
        f"{saved['data']}: {size['train']:,} / {size['validation']:,} / {size['test']:,} images, "
        + (f"epochs: at most {size['epochs']}" if size["epochs"] else "the notebook's epochs")
    )
    for side, rounds in sides.items():
        versions = sorted({found["code"] for found in rounds})
        each = ", ".join(f"{found['wall']:,.1f}" for found in rounds) or "none yet"
        print(f"wall seconds of the {side}: {each} (code {', '.join(versions) or '-'})")
        if len(versions) > 1:
            print(f"WARNING: these rounds ran {len(versions)} versions of the code")
    if not all(sides.values()):
        print("Nothing to compare until both sides have run.")
        return
    check_same_work(sides)
    show_parts(sides, saved["apart"])
    show_whole(sides)
    show_accuracies(sides)
    walls = {side: median(rounds, "wall") for side, rounds in sides.items()}
    print(f"ratio {walls[FLOW] / walls[SCRIPT]:.2f}")


def median(rounds: Sequence[Any], *path: str) -> float:
    """The median over rounds of the value at this path; a missing value counts as 0."""
    found = []
    for value in rounds:
        for name in path:
            value = value.get(name, {})
        found.append(value or 0.0)
    return statistics.median(found)


def check_same_work(sides: Mapping[str, Sequence[Measurement]]) -> None:
    """End with an error unless both sides trained the same models with the same settings."""
    reference = trained(sides[SCRIPT][0])
    for side, rounds in sides.items():
        for found in map(trained, rounds):
            for model in sorted(reference | found):
                if reference.get(model) != found.get(model):
                    sys.exit(
                        f"error: the sides have not done the same work: {model} has "
                        f"{found.get(model)} in a round of the {side}, expected the script's "
                        f"{reference.get(model)}."
                    )


def trained(found: Measurement) -> dict[str, dict[str, float]]:
    return {
        model: {name: values[name] for name in TRAINING}
        for model, values in found["models"].items()
    }


def show_parts(
    sides: Mapping[str, Sequence[Measurement]], apart: Mapping[str, Mapping[str, float]]
) -> None:
    costs = ("wall", "cpu", "peak")
    apart_title = f"{'flow, separate stages':>31}" if apart else ""
    titles = "".join(f"{title:>9}" for title in ("s", "CPU s", "MiB"))
    print(f"\n{'':<18}{'script':>27}{'flow':>13}" + apart_title)
    print(f"{'part':<18}{titles}{'s':>13}" + (f"    {titles}" if apart else ""))
    for part, title in PARTS.items():
        if not any(part in found["parts"] for rounds in sides.values() for found in rounds):
            continue
        script = [cell(median(sides[SCRIPT], "parts", part, cost), cost) for cost in costs]
        row = f"{title:<18}{''.join(script)}"
        row += f"{median(sides[FLOW], 'parts', part, 'wall'):>13,.1f}"
        if apart:
            row += "    " + "".join(
                cell(apart.get(part, {}).get(cost, 0.0), cost) for cost in costs
            )
        print(row)
    print(
        "MiB: the script's peak so far; with separate stages, the largest peak of one. The flow "
        "computes two\nstages at a time. The rest: the script's start; stages that only the flow "
        "has."
    )


def cell(value: float, cost: str) -> str:
    digits = 0 if cost == "peak" else 1
    return f"{f'{value:,.{digits}f}' if value else '-':>9}"


def show_whole(sides: Mapping[str, Sequence[Measurement]]) -> None:
    print(f"\n{'in all':<26}{'script':>10}{'flow':>10}")
    for title, name, digits in (
        ("wall, s", "wall", 1),
        ("CPU, s", "cpu", 1),
        ("peak, MiB", "peak", 0),
        ("with its children, MiB", "peak_with_children", 0),
    ):
        cells = (f"{median(sides[side], name):>10,.{digits}f}" for side in SIDES)
        print(f"{title:<26}{''.join(cells)}")
    flow = sides[FLOW]
    whole = {when: median(flow, "idle", when) for when in ("before", "between", "after")}
    idle = [sum(found["idle"].values()) for found in flow]
    share = statistics.median(
        seconds / found["wall"] for seconds, found in zip(idle, flow, strict=True)
    )
    stages = statistics.median(
        sum(part["wall"] for part in found["parts"].values()) for found in flow
    )
    print(
        f"orchestration: no stage computes for {statistics.median(idle):.1f} s of the flow's run, "
        f"{100 * share:.1f} % of it\n  ({whole['before']:.1f} s before the first stage: imports, "
        f"server; {whole['between']:.1f} s between stages; {whole['after']:.1f} s after the last: "
        f"report, end)\nthe flow's {flow[0]['stages']} stages took {stages:,.1f} s in sum"
    )


def show_accuracies(sides: Mapping[str, Sequence[Measurement]]) -> None:
    print(f"\n{'test accuracy, %':<18}{'script':>9}{'flow':>9}")
    for part, title in PARTS.items():
        if part in sides[SCRIPT][0]["models"]:
            cells = (
                f"{100 * median(sides[side], 'models', part, 'test_accuracy'):>9.2f}"
                for side in SIDES
            )
            print(f"{title:<18}{''.join(cells)}")
    print("VGG16 has random weights: its accuracy only shows that both sides do the same.")


if __name__ == "__main__":
    try:
        main()
    except FashionFlowError as error:
        sys.exit(f"error: {error}")
