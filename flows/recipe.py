"""The notebook's table of contents: which stages run, on what, in which order.

It is written once and read twice: the flow hands each stage to Prefect, `plan` only looks it up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from flows import stages
from flows.iterate import beginnings, iterate
from flows.stages import ModelStage
from tasks.core.records import Outcome, Stage
from tasks.core.settings import Settings
from tasks.core.vgg16_layout import BLOCK_4, BLOCK_5


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
    transfer = [ModelStage("vgg16_frozen", "3d"), ModelStage("vgg16_fine_tuned", "3e")]
    return [
        ModelStage("baseline", "5a"),
        ModelStage("low_capacity", "5b"),
        ModelStage("overfitting", "6"),
        *iterations,
        ModelStage("final", "7b"),
        *(transfer if settings.transfer.weights != "off" else []),
    ]


def stage_names(settings: Settings) -> list[str]:
    """Every stage of a run in the notebook's order."""
    names = ["load", "explore", "subset", "preprocess"]
    for model in model_stages(settings):
        if model.name == "vgg16_frozen":
            names += ["vgg16_weights", "vgg16_block4", "vgg16_block5"]
        names += [model.name, *([model.gate] if model.gate else [])]
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
        made |= transfer(run, settings, arrays)

    # Step 7: the iterations, then the surviving settings on training + validation.
    survivor = iterate(run, settings, arrays, made)
    made["final"] = run(stages.retrain(survivor.training, settings.seed), arrays=arrays)

    # Only now, after the last verdict, is anything scored on the test split.
    for model in models:
        transferred = model.name.startswith("vgg16")
        stage = stages.evaluate(
            model.name,
            loss="binary_crossentropy" if transferred else "categorical_crossentropy",
            vgg16_side=settings.transfer.side if transferred else None,
        )
        made[stage.name] = run(stage, survivor.verdicts, model=made[model.name], arrays=arrays)

    table = stages.results(models, settings)
    made["results"] = run(table, **{role: made[role] for role in table.reads})
    pictures = stages.figures(models, settings)
    made["figures"] = run(pictures, **{role: made[role] for role in pictures.reads})
    return made


def transfer(run: Run, settings: Settings, arrays: Any) -> dict[str, Any]:
    """VGG16: its frozen layers once, a head on their outputs, then block 5 fine-tuned."""
    side = settings.transfer.side
    weights = run(stages.vgg16_weights(settings))
    block_4 = run(
        stages.vgg16_features("vgg16_block4", side, None, BLOCK_4), source=arrays, weights=weights
    )
    block_5 = run(
        stages.vgg16_features("vgg16_block5", side, BLOCK_4, BLOCK_5),
        source=block_4,
        weights=weights,
    )
    frozen = run(
        stages.vgg16_train("vgg16_frozen", settings, BLOCK_5, settings.transfer.epochs, "weights"),
        features=block_5,
        weights=weights,
    )
    fine_tuned = run(
        stages.vgg16_train(
            "vgg16_fine_tuned", settings, BLOCK_4, settings.transfer.fine_tune_epochs, "start"
        ),
        features=block_4,
        start=frozen,
    )
    return {
        "vgg16_weights": weights,
        "vgg16_block4": block_4,
        "vgg16_block5": block_5,
        "vgg16_frozen": frozen,
        "vgg16_fine_tuned": fine_tuned,
    }
