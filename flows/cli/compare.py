"""`fashion-flow compare`: two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from flows.cli.common_options import ARTIFACTS, JsonFlag, StoreOption
from flows.cli.results import DECISIONS, score
from flows.cli.run_tables import metric_of, note_unfinished, result_rows
from flows.cli.screen import add_row, line, sentence, shortened, show, show_json, table, warn
from flows.planning.differences import flat
from flows.recipe.settle import logged_rule_words, logged_settings
from tasks.core.messages import listed
from tasks.core.names import FINAL, PREPROCESS
from tasks.core.own_code import OWN_CODE, short_digest
from tasks.core.settings.evaluation import Metric
from tasks.core.statistics.metric_words import NAMES, gain_words
from tasks.engine.profile import profile_changes
from tasks.storage.run_log import RunLog, find_run
from tasks.storage.store import Store

Plan = Sequence[Mapping[str, Any]]


def compare(
    first: Annotated[str, Parameter("RUN1", help="A run's id.")],
    second: Annotated[str, Parameter("RUN2", help="Another run's id.")],
    /,
    *,
    as_json: JsonFlag = False,
    store: StoreOption = ARTIFACTS,
) -> None:
    """Print the settings that differ, and the scores of every model in both runs.

    Raises:
        UserError: there is no such run.
    """
    opened = Store(store)
    runs = [find_run(opened, run_id) for run_id in (first, second)]
    for run in dict.fromkeys(runs):
        note_unfinished(run)
    found = comparison(*runs)
    if as_json:
        show_json(found)
        return
    line(f"first: run {first}, second: run {second}")
    _show_settings(found["settings"])
    for words in dict.fromkeys(found["rules"]):
        if words:
            sentence(words)
    line("")
    if found["same_test_images"] is False:
        warn(
            "The runs have different test images: compare their validation scores, not their test "
            "scores."
        )
    if found["profiles"]:
        warn(
            "The runs were computed under different execution profiles, so equal settings may give "
            f"other last digits. The second has {listed(found['profiles'], separator='; ')}."
        )
    _show_scores(found["results"], found["metric"])
    line("Changes include chance; `fashion-flow verdicts` shows how much to expect.")


def comparison(one: RunLog, other: RunLog) -> dict[str, Any]:
    """The settings that differ between two runs, their rules in words, and results by model.

    Settings have dotted names, the plan's iterations are numbered, and `profile.` begins the names
    of the execution profile, `code of` those of the code of the user's own networks. Iterations
    that try different changes are different models. Scores are by `metric`: that of both runs, or
    accuracy if they differ. `same_test_images` is None until
    both runs have test images; `profiles` says how the second run's execution profile differs.
    """
    runs = (one, other)
    entries = [run.read() for run in runs]
    plans = [entry["settings"]["plan"] for entry in entries]
    flattened = [_flat(entry) | _own_code(run) for run, entry in zip(runs, entries, strict=True)]
    names = dict.fromkeys(name for values in flattened for name in values)
    tables = [
        {_label(row["name"], plan, others): row for row in result_rows(run)}
        for run, plan, others in zip(runs, plans, reversed(plans), strict=True)
    ]
    images = [_test_images(run) for run in runs]
    metrics = {metric_of(run) for run in runs}
    # Scores by different metrics can't be compared; every run has accuracies.
    metric: Metric = metrics.pop() if len(metrics) == 1 else "accuracy"
    shown = (f"val_{metric}", f"test_{metric}", "state")
    return {
        "runs": [run.run_id for run in runs],
        "rules": [logged_rule_words(entry["settings"]) for entry in entries],
        "same_test_images": images[0] == images[1] if all(images) else None,
        "metric": metric,
        "profiles": profile_changes(*(entry["profile"] for entry in entries)),
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


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings and profile by dotted name."""
    settings = dict(logged_settings(entry["settings"]))
    plan = settings["plan"]
    numbered = {str(number): iteration for number, iteration in enumerate(plan, start=1)}
    given = settings | {"plan": numbered, "profile": entry["profile"]}
    # An empty plan has no iteration that could differ.
    return flat({name: value for name, value in given.items() if value != {}})


def _own_code(run: RunLog) -> dict[str, str]:
    """By training, the digest of the code that built its network, if a function of the user did."""
    used = run.read()["settings"]
    if '"function": "' not in json.dumps(used) and ".function" not in json.dumps(used):
        return {}
    records = [run.record(line["stage"]) for line in run.stages()]
    return {
        f"code of {record.stage}": short_digest(record.basis[OWN_CODE])
        for record in records
        if record and OWN_CODE in record.basis
    }


def _label(model: str, plan: Plan, other: Plan) -> str:
    """A model's name; with its change, if the other run tries another one in that iteration."""
    number = model.removeprefix("iteration_")
    if not number.isdecimal() or int(number) > min(len(plan), len(other)):
        return model
    change, other_change = plan[int(number) - 1]["name"], other[int(number) - 1]["name"]
    return model if change == other_change else f"{model}: {change}"


def _test_images(run: RunLog) -> str | None:
    record = run.record(PREPROCESS)
    return record.digest(("test",)) if record else None


def _show_settings(settings: Mapping[str, Sequence[Any]]) -> None:
    if not settings:
        line("Both runs have the same settings and execution profile.")
        return
    made = table()
    for column in ("setting", "first", "second"):
        made.add_column(column, overflow="fold")
    for name, (one, other) in settings.items():
        add_row(made, *(shortened(word) for word in (name, one, other)))
    show(made)


def _show_scores(results: Mapping[str, Sequence[Mapping[str, Any] | None]], metric: Metric) -> None:
    if metric != "accuracy":
        line(f"val., test: {NAMES[metric]}{'' if metric == 'log_loss' else ', %'}")
    names = (f"val_{metric}", f"test_{metric}")
    scores = table("model", "val. 1", "val. 2", "test 1", "test 2", "change")
    scores.add_column("decision", no_wrap=True)
    for model, pair in results.items():
        rows = [row or {} for row in pair]
        one, other = (row.get(names[1]) for row in rows)
        change = "" if one is None or other is None else gain_words(metric, other - one)
        values = [score(row, name, metric) for name in names for row in rows]
        states = dict.fromkeys(DECISIONS.get(row.get("state") or "", "-") for row in rows)
        decisions = ", ".join(states) if any(state != "-" for state in states) else ""
        style = "bold" if model == FINAL else None
        add_row(scores, model, *values, change, decisions, style=style)
    show(scores)
