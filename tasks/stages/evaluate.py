"""Score a trained model on the test split, after the last decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.core.records import Outcome, Stage
from tasks.engine.stage import Facts, Inputs, Outputs, RunContext, stage_task
from tasks.storage.run_log import now
from tasks.storage.store import Store


def _log_scoring(context: RunContext, stage: Stage, inputs: Mapping[str, Outcome]) -> None:
    """Add the scoring to the store's log, so that it is known how often the test set was used."""
    store = Store(context.store_url)
    test_data = inputs["arrays"].digest(stage.reads["arrays"])
    store.log_scoring(
        {
            "time": now(),
            "run": context.run_id,
            "model": stage.settings["model"],
            "model_digest": inputs["model"].digest(stage.reads["model"]),
            "test_data": test_data,
        }
    )


@stage_task(before_compute=_log_scoring)
def evaluate(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Score the saved model in inference mode; leave its test predictions and its scores."""
    from tasks.core.networks import vgg16
    from tasks.core.training.loop import Examples
    from tasks.models.fit import prediction_table, score
    from tasks.models.model_files import load_keras

    test = Examples(**inputs.arrays("arrays", "test"))
    model = load_keras(inputs.path("model", "model"))
    images = settings["vgg16_input"]
    if images is None:
        facts, probabilities = score(model, test, settings["loss"], "test")
    else:
        facts, probabilities = score(
            model,
            test,
            settings["loss"],
            "test",
            prepare=lambda x: vgg16.as_vgg16_input(x, **images),
            batch=vgg16.batch_size(images["side"]),
        )
    outputs.table("test_predictions", prediction_table(probabilities, test.y))
    return facts
