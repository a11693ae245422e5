"""What the terminal shows: tables of results, runs and plans, warnings and errors."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich import filesize
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from flows.deployment.pools import KUBERNETES, Pool
from flows.planning.differences import flat
from flows.planning.plan import CACHED, Planned
from flows.recipe.presets import NOTEBOOK
from tasks.core.errors import UserError
from tasks.core.settings.evaluation import EvaluationSettings
from tasks.storage.cleaning import Cleaning
from tasks.storage.run_log import RunLog, all_runs, damaged_runs, find_run, no_run
from tasks.storage.store import Store
from tasks.storage.verification import Verification

SHOWN_CHANGES = 4
LONGEST_VALUE = 120

DECISIONS = {
    "RolledForward": "forward",
    "KeptIncumbent": "back",
    "Inconclusive": "inconclusive",
    "ForcedForward": "FORCED forward",
    "ForcedBack": "FORCED back",
}

# What rule significant says; with one training of each model it can say nothing.
TESTED = {"forward": "better", "back": "worse", "inconclusive": "open", None: "not"}

out = Console()
err = Console(stderr=True)


def warn(message: str) -> None:
    """Something that must not be overlooked."""
    err.print(Panel(Text(message), border_style="yellow", title="note", title_align="left"))


def fail(message: str) -> None:
    """The one message of a run that could not be."""
    err.print(f"error: {message}", style="bold red", markup=False, highlight=False)


def result_rows(store: Store, run_id: str | None, name: str = "results") -> list[dict[str, Any]]:
    """The rows of a run's table of results, or of `replicates` or `verdicts`.

    Raises:
        UserError: there is no such run, or it ended before the table was made.
    """
    return _result_rows(store, find_run(store, run_id), name)


def _result_rows(store: Store, run: RunLog, name: str = "results") -> list[dict[str, Any]]:
    record = run.record("results")
    if record is None:
        raise UserError(
            f"run {run.run_id} ended before its results were there ({run.status()}); "
            "start it again to go on."
        )
    rows: list[dict[str, Any]] = store.table(record, name).to_pylist()
    return rows


def show_results(store: Store, run_id: str | None) -> None:
    """Print a run's table of results, the data set and where the final model is."""
    run = find_run(store, run_id)
    _show_scores(store, run, run_id)
    _show_files(store, run)


def _show_scores(store: Store, run: RunLog, run_id: str | None) -> None:
    rows = _result_rows(store, run)
    if run_id is None:
        note_newer_runs(store, run)
    settings = run.read()["settings"]
    notebook = any(row["notebook_test_accuracy"] is not None for row in rows)
    # Tables of earlier versions lack what came later.
    several = any(row.get("trainings", 1) > 1 for row in rows)
    # A table of means has no room for everything in 80 characters.
    sizes = () if several else ("params", "epochs")
    table = _table("model", *sizes, "val. %", "test %", *(["95 % interval"] if several else []))
    if notebook:
        table.add_column("notebook %", justify="right")
    table.add_column("decision")
    for row in rows:
        shown = [
            row["name"],
            *([] if several else [f"{row['params']:,}", str(row["epochs"])]),
            _percent(row["val_accuracy"]),
            _percent(row["test_accuracy"]),
            *([_interval(row)] if several else []),
            *([_percent(row["notebook_test_accuracy"])] if notebook else []),
            DECISIONS.get(row.get("state") or "", row.get("decision") or ""),
        ]
        table.add_row(*shown, style="bold" if row["name"] == "final" else None)
    _line(f"run {run.run_id}: data set {settings['dataset']}, {_protocol(settings)}")
    out.print(table)


def show_end(store: Store, run_id: str, *, quiet: bool = False) -> None:
    """Print what a run came to: scores, verdicts, where its files are, what to try next."""
    run = find_run(store, run_id)
    if quiet:
        _line(str(run.report))
        return
    _show_scores(store, run, run_id)
    if run.read()["settings"]["plan"]:
        _line("")
        _show_gates(_result_rows(store, run, "verdicts"), run.read()["settings"])
    _line("")
    _show_files(store, run)
    _show_next(store, run)


def _show_next(store: Store, run: RunLog) -> None:
    """What a reader of these results may want to do next, as commands to copy."""
    settings = run.read()["settings"]
    place = (
        ""
        if str(store.root) == str(Path("artifacts").resolve())
        else f" --store {shlex.quote(str(store.root))}"
    )
    steps = [(f"fashion-flow report --open{place}", "look at all of it")]
    if settings["evaluation"]["replicates"] == 1 and settings["plan"]:
        steps.append(
            ("the same command with --replicates 5", "see which verdicts are more than luck")
        )
    skipped = {entry["stage"] for entry in run.stages() if entry["state"] == "skipped"}
    if "vgg16_weights" in skipped:
        steps.append(("the same command with --vgg16-weights FILE", "transfer from VGG16 too"))
    steps.append((f"fashion-flow predict IMAGE...{place}", "have the final model say what it sees"))
    _line("")
    _line("next:")
    # Commands as long as the path of a store take no room from the others.
    room = out.width - 4 - max(len(purpose) for _, purpose in steps)
    width = max((len(command) for command, _ in steps if len(command) <= room), default=0)
    for command, purpose in steps:
        _line(f"  {command:<{width}}  {purpose}")


def show_deployment(name: str, pool: Pool, address: str) -> None:
    """Print how a deployment is run, as commands to copy."""
    worker = f"prefect worker start --pool {pool.name}"
    steps = {
        f"export PREFECT_API_URL={address}": "on each machine",
        # A cluster has a scheduler of its own.
        **(
            {worker: f"a worker, with prefect-{pool.type} installed"}
            if pool.type == KUBERNETES
            else {f"{worker} --limit 1": "a worker, which runs one at a time"}
        ),
        f"prefect deployment run build-model/{name}": "a run, now",
    }
    _line(f"deployed: build-model/{name}, for workers of pool {pool.name}")
    _line("")
    _line("next:")
    width = max(map(len, steps))
    for command, purpose in steps.items():
        _line(f"  {command:<{width}}  {purpose}")


def show_verdicts(store: Store, run_id: str | None) -> None:
    """Print what each gate decided, the gain with its 95 % interval, and the p values."""
    run = find_run(store, run_id)
    rows = _result_rows(store, run, "verdicts")
    if rows and "ci_low" not in rows[0]:
        raise UserError(
            f"run {run.run_id} was made before gates recorded their evidence; run it again."
        )
    if run_id is None:
        note_newer_runs(store, run)
    settings = run.read()["settings"]
    _line(f"run {run.run_id}: data set {settings['dataset']}, {_protocol(settings)}")
    _show_gates(rows, settings)
    level = rows[0]["level"] if rows else settings["alpha"]
    _line("gain: in accuracy on held-out images, points; p: of such a gain if there were none,")
    _line(f"adj.: by Holm; tested: what rule significant says at its level of {level:.3g} a gate")


def _show_gates(rows: list[dict[str, Any]], settings: Mapping[str, Any]) -> None:
    table = _table("gate")
    table.columns[0].max_width = 21
    table.add_column("decision", no_wrap=True)
    for name in ("gain", "95 % interval", "p", "adj. p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("tested", no_wrap=True)
    for row, entry in zip(rows, settings["plan"], strict=True):
        table.add_row(
            Text(f"{row['gate']} {entry['name']}"),
            DECISIONS[row["state"]],
            f"{100 * row['delta_accuracy']:+.1f}",
            f"{100 * row['ci_low']:+.1f} to {100 * row['ci_high']:+.1f}",
            _p_value(row["p_value"]),
            _p_value(row["p_value_adjusted"]),
            TESTED[row["by_significant"]],
        )
    out.print(table)


def _p_value(value: float) -> str:
    return "<0.001" if value < 1e-3 else f"{value:.3f}"


def _table(*columns: str) -> Table:
    """A plain table that fits 80 characters: the first column left, the others right."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table


def _line(text: str) -> None:
    """A line as it is: paths are neither wrapped nor coloured, so that they can be copied."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _show_files(store: Store, run: RunLog) -> None:
    if run.read()["settings"]["transfer"]["weights"] == "random":
        _line("VGG16 has random weights here: a control, not transfer learning")
    for entry in run.stages():
        if entry["stage"] == "vgg16_weights" and entry["state"] == "skipped":
            _line(f"VGG16 skipped: {entry['reason']}")
    final = run.record("final")
    if run.model_folder.is_dir():
        _line(f"final model: {run.model_folder}")
    elif final is not None:
        _line(f"final model: {store.root / final.files['model'].path}")
    if run.report.is_file():
        _line(f"report:      {run.report}")


def _protocol(settings: Mapping[str, Any]) -> str:
    """The rule, and by how many trainings models are judged where it is not one."""
    evaluation = EvaluationSettings.model_validate(settings.get("evaluation", {}))
    return ", ".join([f"rule {settings['rule']}", *evaluation.words()])


def _interval(row: Mapping[str, Any]) -> str:
    return f"{100 * row['test_accuracy_low']:.2f}-{100 * row['test_accuracy_high']:.2f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def note_newer_runs(store: Store, run: RunLog) -> None:
    """Say it where a later run did not come to its end, so that old results don't pass for new."""
    latest = all_runs(store)[-1]
    if latest.run_id != run.run_id:
        warn(
            f"The latest run, {latest.run_id}, is {latest.status()}; this is run {run.run_id}, the "
            "latest that is done."
        )


def run_rows(store: Store) -> list[dict[str, Any]]:
    """What is known of every run, oldest first."""
    rows = []
    for run in all_runs(store):
        states = [entry["state"] for entry in run.stages()]
        counts = {state: states.count(state) for state in ("completed", "cached", "skipped")}
        rows.append(run.read() | {"status": run.status(), "stages": counts})
    return rows


def comparison(store: Store, first: str, second: str) -> dict[str, Any]:
    """What differs between two runs, and their results by model.

    Settings stand by dotted name, iterations of the plan by number, and `profile.` is what the runs
    were computed on. Iterations that try different things are different models.

    Raises:
        UserError: there is no such run, or one has no results.
    """
    runs = [find_run(store, run_id) for run_id in (first, second)]
    entries = [run.read() for run in runs]
    plans = [entry["settings"]["plan"] for entry in entries]
    flattened = []
    for entry, plan in zip(entries, plans, strict=True):
        numbered = {str(number): iteration for number, iteration in enumerate(plan, start=1)}
        given = entry["settings"] | {"plan": numbered, "profile": entry["profile"]}
        # An empty plan has no iteration that could differ.
        flattened.append(flat({name: value for name, value in given.items() if value != {}}))
    names = dict.fromkeys(name for values in flattened for name in values)
    tables = [
        {_label(row["name"], plan, other): row for row in _result_rows(store, run)}
        for run, plan, other in zip(runs, plans, reversed(plans), strict=True)
    ]
    shown = ("val_accuracy", "test_accuracy", "state")
    return {
        "runs": [run.run_id for run in runs],
        "same_test_images": len({_test_images(run) for run in runs}) == 1,
        "settings": {
            name: [values.get(name) for values in flattened]
            for name in names
            if flattened[0].get(name) != flattened[1].get(name)
        },
        "results": {
            model: [
                {name: table[model].get(name) for name in shown} if model in table else None
                for table in tables
            ]
            for model in dict.fromkeys([*tables[0], *tables[1]])
        },
    }


def _label(
    model: str, plan: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> str:
    """A model's name, with what it tries where the other run tries something else by that name."""
    number = model.removeprefix("iteration_")
    if not number.isdecimal() or int(number) > min(len(plan), len(other)):
        return model
    tried, else_tried = plan[int(number) - 1]["name"], other[int(number) - 1]["name"]
    return model if tried == else_tried else f"{model}: {tried}"


def _test_images(run: RunLog) -> str:
    record = run.record("preprocess")
    return record.digest(("test",)) if record else ""


def show_comparison(store: Store, first: str, second: str) -> None:
    """Print which settings of two runs differ, and their scores side by side."""
    found = comparison(store, first, second)
    _line(f"first: run {found['runs'][0]}, second: run {found['runs'][1]}")
    if found["settings"]:
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for column in ("setting", "first", "second"):
            table.add_column(column, overflow="fold")
        for name, (one, other) in found["settings"].items():
            table.add_row(*(Text(_shortened(word)) for word in (name, one, other)))
        out.print(table)
    else:
        _line("Their settings are the same, and what they were computed on.")
    _line("")
    if not found["same_test_images"]:
        warn("Their test images are not the same, so their test scores can't be compared.")
    scores = _table("model", "val. 1", "val. 2", "test 1", "test 2", "change")
    scores.add_column("decision", no_wrap=True)
    for model, pair in found["results"].items():
        rows = [row or {} for row in pair]
        one, other = (row.get("test_accuracy") for row in rows)
        change = f"{100 * (other - one):+.2f}" if one is not None and other is not None else ""
        percents = [
            _percent(row.get(name)) for name in ("val_accuracy", "test_accuracy") for row in rows
        ]
        states = dict.fromkeys(DECISIONS.get(row.get("state") or "", "-") for row in rows)
        style = "bold" if model == "final" else None
        decisions = ", ".join(states) if any(state != "-" for state in states) else ""
        scores.add_row(model, *percents, change, decisions, style=style)
    out.print(scores)
    _line("A change has the luck of both runs in it; `fashion-flow verdicts` tells more.")


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def show_runs(store: Store) -> None:
    """Print a line for each run."""
    rows = run_rows(store)
    if not rows:
        raise UserError(f"{no_run(store)}; start one with `fashion-flow run`.")
    table = _table("run (UTC)", "status", "took", "new", "cached")
    table.add_column("data set, rule and what else is not the notebook's")
    for row in rows:
        table.add_row(
            row["run"],
            row["status"],
            _duration(row["started"], row["ended"]),
            str(row["stages"]["completed"]),
            str(row["stages"]["cached"]),
            Text(", ".join(_characteristics(row))),
        )
    out.print(table)
    damaged = damaged_runs(store)
    if damaged:
        warn(f"The logs of {', '.join(damaged)} are damaged; delete their folders to forget them.")


def _characteristics(row: dict[str, Any]) -> list[str]:
    """The data set, the rule, what else differs from the notebook's, and the stages if not all."""
    settings = row["settings"]
    ours, notebooks = flat(settings), flat(NOTEBOOK.model_dump(mode="json"))
    changed = [
        "plan" if name == "plan" else f"{name}={value}"
        for name, value in ours.items()
        if value != notebooks.get(name) and name not in ("dataset", "rule")
    ]
    shown = changed if len(changed) <= SHOWN_CHANGES else [f"{len(changed)} other settings"]
    only = [f"only {', '.join(row['only'])}"] if row["only"] else []
    return [settings["dataset"], settings["rule"], *shown, *only]


def _duration(started: str, ended: str | None) -> str:
    if ended is None:
        return ""
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    return str(timedelta(seconds=round(took.total_seconds())))


def show_plan(planned: list[Planned]) -> None:
    """Print a line for each stage: what a run would do, why, and how long it took last time."""
    table = _table("stage")
    table.add_column("state", no_wrap=True)
    table.add_column("last time", justify="right", no_wrap=True)
    table.add_column("why")
    for item in planned:
        style = "dim" if item.state == CACHED else None
        reason = Text(item.reason)
        if item.last.get("resumed_after"):
            reason.append(f" (last time: from epoch {item.last['resumed_after']} on)")
        table.add_row(item.stage, item.state, _seconds(item.last), reason, style=style)
    out.print(table)
    cached = sum(item.state == CACHED for item in planned)
    ahead = [item for item in planned if item.state != CACHED]
    _line(f"{cached} of {len(planned)} stages are cached.")
    known = [item.last["seconds"] for item in ahead if item.last]
    if known:
        took = timedelta(seconds=round(sum(known)))
        which = "All others" if len(known) == len(ahead) else f"Of the others, {len(known)}"
        _line(f"{which} took {took} the last time, with the settings of then.")
        if len(known) < len(ahead):
            _line(f"How long the other {len(ahead) - len(known)} will take is not known yet.")


def _seconds(line: Mapping[str, Any]) -> str:
    return f"{line['seconds']:.1f} s" if line else ""


def show_verification(store: Store, found: Verification) -> None:
    """Print what is damaged, what belongs to no result, and what is intact."""
    for title, findings in (
        ("damaged", found.damaged),
        ("orphan", found.orphans),
        ("unfinished", found.unfinished),
    ):
        for item in findings:
            _line(f"{title:<11} {_bytes(item.size):>9}  {item.path}: {item.what}")
    _line(
        f"{store.root}: {found.records} results with {found.files} files ({_bytes(found.size)}) "
        f"are intact; {len(found.damaged)} damaged, {len(found.orphans)} orphans, "
        f"{len(found.unfinished)} unfinished."
    )
    if found.damaged:
        _line("The next run makes anew what it needs of the damaged; nothing damaged is ever used.")
    if found.orphans:
        _line("`fashion-flow clean` removes orphans.")


def show_cleaning(store: Store, cleaned: Cleaning, *, dry_run: bool) -> None:
    """Print what was or would be removed, what is locked, and how much that frees."""
    for item in cleaned.removed:
        _line(f"{_bytes(item.size):>9}  {item.path}: {item.what}")
    for path in cleaned.locked:
        _line(f"kept: {path} is being computed")
    for doubt in cleaned.doubts:
        warn(f"All results are kept, since it is not known what this run used. {doubt}")
    verb = "would be removed" if dry_run else "removed"
    freed = _bytes(cleaned.freed)
    _line(f"{store.root}: {len(cleaned.removed)} items {verb}, {freed} freed.")


def _bytes(size: int) -> str:
    return str(filesize.decimal(size))
