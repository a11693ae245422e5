"""Score a trained model on the test split, after the last decision."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.core.names import ARRAYS, MODEL, TEST, TEST_PREDICTIONS
from tasks.core.records import Outcome, Stage
from tasks.core.stage_specs import EvaluateSpec
from tasks.engine.stage import Facts, Inputs, Outputs, RunContext, stage_task
from tasks.storage.run_log import now
from tasks.storage.store import Store


def _log_scoring(context: RunContext, stage: Stage, inputs: Mapping[str, Outcome]) -> None:
    """Add an entry to the store's log of test scorings; the report prints how many there were."""
    assert isinstance(stage.spec, EvaluateSpec)
    Store(context.store_url).log_scoring(
        {
            "time": now(),
            "run": context.run_id,
            "model": stage.spec.model,
            "model_digest": inputs[MODEL].digest(stage.reads[MODEL]),
            "test_data": inputs[ARRAYS].digest(stage.reads[ARRAYS]),
        }
    )


@stage_task(EvaluateSpec, before_compute=_log_scoring)
def evaluate(spec: EvaluateSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Score the saved model in inference mode; store its test predictions."""
    from tasks.core.networks import vgg16
    from tasks.models.fit import score, stored_examples
    from tasks.models.model_files import load_keras
    from tasks.models.prediction_tables import prediction_table

    model = load_keras(inputs.path(MODEL, MODEL))
    test = stored_examples(inputs, ARRAYS, TEST, model.output_shape[1])
    images = spec.vgg16_input
    if images is None:
        facts, probabilities = score(model, test, spec.loss, TEST)
    else:
        facts, probabilities = score(
            model,
            test,
            spec.loss,
            TEST,
            prepare=lambda x: vgg16.as_vgg16_input(x, images.side, images.preprocessing),
            batch=vgg16.batch_size(images.side),
        )
    outputs.table(TEST_PREDICTIONS, prediction_table(probabilities, test.labels))
    return facts
