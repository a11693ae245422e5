"""The notebook's table of contents: which stages run, on what, in which order.

It is written once and read twice: the flow hands each stage to Prefect, `plan` only looks it up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from flows import stages, transfer
from flows.iterate import beginnings, iterate
from flows.stages import ModelStage
from tasks.core.records import Outcome, Stage
from tasks.core.settings import Settings


class Run(Protocol):
    """Whoever carries the recipe out. A handle stands for an outcome that may not be there yet."""

    def __call__(self, stage: Stage, after: Sequence[Any] = (), **inputs: Any) -> Any:
        """Have a stage done once its inputs and what it comes `after` are; return its handle."""

    def value(self, handle: Any) -> Outcome:
        """Wait for the outcome that a handle stands for."""


def model_stages(settings: Settings) -> list[ModelStage]:
    """Every model of a run in the notebook's order, known before anything runs."""
    iterations = [
        ModelStage(f"iteration_{number}", "7", stages.gate_name(number))
        for number in range(1, len(settings.plan) + 1)
    ]
    transferred = [
        ModelStage(f"{name}{suffix}", step, transfer=variant)
        for suffix, variant in transfer.variants(settings).items()
        for name, step in (("vgg16_frozen", "3d"), ("vgg16_fine_tuned", "3e"))
    ]
    return [
        ModelStage("baseline", "5a"),
        ModelStage("low_capacity", "5b"),
        ModelStage("overfitting", "6"),
        *iterations,
        ModelStage("final", "7b"),
        *transferred,
    ]


def stage_names(settings: Settings) -> list[str]:
    """Every stage of a run in the notebook's order."""
    names = ["load", "explore", "subset", "preprocess"]
    for model in model_stages(settings):
        if model.transfer:
            features = transfer.features(settings, model.transfer)
            names += ["vgg16_weights", *(stage.name for stage in features)]
        names += [model.name, *([model.gate] if model.gate else [])]
    names = list(dict.fromkeys(names))
    tests = [stages.test_name(model.name) for model in model_stages(settings)]
    return [*names, *tests, "results", "figures"]


def build(run: Run, settings: Settings) -> dict[str, Any]:
    """Carry out the whole workflow; return the handle of everything made, by stage name."""
    models = model_stages(settings)
    made: dict[str, Any] = {}

    # Steps 1 to 4: the data, the splits, the arrays.
    raw = made["load"] = run(stages.load(settings))
    made["explore"] = run(stages.explore(settings), raw=raw)
    split = made["subset"] = run(stages.subset(settings), raw=raw)
    arrays = made["preprocess"] = run(stages.preprocess(), split=split)

    # Steps 5 and 6: something to beat, and something that overfits.
    for name in ("baseline", "low_capacity", "overfitting"):
        snapshots = beginnings(settings.plan) if name == "overfitting" else ()
        training = stages.train(name, getattr(settings, name), settings.seed, snapshots)
        made[name] = run(training, arrays=arrays)

    # Part 3 of the notebook depends on no decision, so it need not wait for any.
    if settings.transfer.weights != "off":
        made |= transfer.transfer(run, settings, arrays)

    # Step 7: the iterations, then the surviving settings on training + validation.
    survivor = iterate(run, settings, arrays, made)
    made["final"] = run(stages.retrain(survivor.training, settings.seed), arrays=arrays)

    # Only now, after the last verdict, is anything scored on the test split.
    for model in models:
        stage = stages.evaluate(model)
        made[stage.name] = run(stage, survivor.verdicts, model=made[model.name], arrays=arrays)

    table = stages.results(models, settings)
    made["results"] = run(table, **{role: made[role] for role in table.reads})
    pictures = stages.figures(models, settings, transfer.inputs_kept(settings))
    made["figures"] = run(pictures, **{role: made[role] for role in pictures.reads})
    return made
