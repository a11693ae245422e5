"""The notebook's table of contents: which stages run, on what, in which order.

It is written once and read twice: the flow hands each stage to Prefect, `plan` only looks it up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from flows.recipe import stages, transfer
from flows.recipe.iterate import Trained, iterate, train
from flows.recipe.stages import ModelStage
from tasks.core.records import Outcome, Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.statistics.replicates import final_replicates, replicates


class Run(Protocol):
    """Whoever carries the recipe out. A handle stands for an outcome that may not be there yet."""

    def __call__(self, stage: Stage, after: Sequence[Any] = (), **inputs: Any) -> Any:
        """Have a stage done once its inputs and what it comes `after` are; return its handle."""

    def value(self, handle: Any) -> Outcome:
        """Wait for the outcome that a handle stands for."""


def model_stages(settings: Settings) -> list[ModelStage]:
    """Every model of a run in the notebook's order, known before anything runs."""

    def trained(name: str, step: str, gate: str | None = None) -> ModelStage:
        found = replicates(settings.evaluation, settings.seed)
        trainings = {f"{name}{replicate.suffix}": replicate for replicate in found}
        return ModelStage(name, step, trainings, gate)

    iterations = [
        trained(f"iteration_{number}", "7", stages.gate_name(number))
        for number in range(1, len(settings.plan) + 1)
    ]
    finals = final_replicates(settings.evaluation, settings.seed)
    final = {f"final{replicate.suffix}": replicate for replicate in finals}
    transferred = [
        # Part 3 is one comparison and no decision: it is trained once, on the validation split.
        ModelStage(f"{name}{suffix}", step, {f"{name}{suffix}": finals[0]}, transfer=variant)
        for suffix, variant in transfer.variants(settings).items()
        for name, step in (("vgg16_frozen", "3d"), ("vgg16_fine_tuned", "3e"))
    ]
    return [
        trained("baseline", "5a"),
        trained("low_capacity", "5b"),
        trained("overfitting", "6"),
        *iterations,
        ModelStage("final", "7b", final),
        *transferred,
    ]


def stage_names(settings: Settings) -> list[str]:
    """Every stage of a run in the notebook's order."""
    names = ["load", "explore", "subset", "guard", "preprocess"]
    names += [stage.name for stage in _deals(settings)]
    for model in model_stages(settings):
        if model.transfer:
            features = transfer.features(settings, model.transfer)
            names += ["vgg16_weights", *(stage.name for stage in features)]
        names += [*model.trainings, stages.curves_name(model.name)]
        names += [model.gate] if model.gate else []
    names = list(dict.fromkeys(names))
    tests = [stages.test_name(name) for model in model_stages(settings) for name in model.trainings]
    return [*names, *tests, *(stage.name for stage in _last_stages(settings))]


def _deals(settings: Settings) -> list[Stage]:
    """The stages that deal the images into folds, where there are folds."""
    evaluation = settings.evaluation
    if evaluation.protocol == "holdout":
        return []
    numbers = range(1, evaluation.replicates + 1)
    return [stages.folds(evaluation, settings.seed, number) for number in numbers]


def build(run: Run, settings: Settings) -> dict[str, Any]:
    """Carry out the whole workflow; return the handle of everything made, by stage name."""
    models = model_stages(settings)
    made: dict[str, Any] = {}

    # Steps 1 to 4: the data, the splits, the arrays.
    raw = made["load"] = run(stages.load(settings))
    made["explore"] = run(stages.explore(settings), raw=raw)
    split = made["subset"] = run(stages.subset(settings), raw=raw)
    guard = made["guard"] = run(stages.guard(settings), split=split)
    # Nothing is trained before it is known that no image stands in two splits.
    arrays = made["preprocess"] = run(stages.preprocess(), [guard], split=split)
    for deal in _deals(settings):
        made[deal.name] = run(deal, split=split, guard=guard)

    # Steps 5 and 6: something to beat, and something that overfits.
    trained: Trained = {}
    for name in ("baseline", "low_capacity", "overfitting"):
        train(run, settings, made, trained, name, getattr(settings, name))

    # Part 3 of the notebook depends on no decision, so it need not wait for any.
    if settings.transfer.weights != "off":
        made |= transfer.transfer(run, settings, arrays)

    # Step 7: the iterations, then the surviving settings on training + validation.
    survivor = iterate(run, settings, made, trained)
    finals = {}
    for replicate in final_replicates(settings.evaluation, settings.seed):
        final = stages.retrain(survivor.training, replicate)
        finals[final.name] = run(final, arrays=arrays)
    drawing = stages.curves("final", list(finals), settings)
    made |= finals | {drawing.name: run(drawing, **finals)}

    # Only now, after the last verdict, is anything scored on the test split.
    for model in models:
        for training in model.trainings:
            stage = stages.evaluate(model, training)
            made[stage.name] = run(stage, survivor.verdicts, model=made[training], arrays=arrays)

    # What it all amounts to.
    for stage in _last_stages(settings):
        made[stage.name] = run(stage, **{role: made[role] for role in stage.reads})
    return made


def _last_stages(settings: Settings) -> list[Stage]:
    """Tables and pictures of what the models are worth."""
    models = model_stages(settings)
    found = [
        stages.results(models, settings),
        stages.success(models, settings),
        stages.quality(models, settings),
        stages.figures(settings, transfer.inputs_kept(settings)),
    ]
    if settings.plan:
        found.insert(1, stages.selection(models, settings))
    return found
