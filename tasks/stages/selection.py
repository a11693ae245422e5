"""Count the decisions made on held-out images, and estimate how much they bias the best score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.array_types import Float64
from tasks.core.names import SELECTION, VALIDATION
from tasks.core.seeds import generator
from tasks.core.settings.evaluation import Metric
from tasks.core.stage_spec import Model
from tasks.core.stage_specs import SelectionSpec
from tasks.core.statistics.balanced import Strata
from tasks.core.statistics.decisions import REPLAYED
from tasks.core.statistics.optimism import Optimism, optimism
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.results import OPTIMISM
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.held_out import by_image
from tasks.models.stored_predictions import scored

METHOD = (
    "bootstrap bias correction (BBC-CV, Tsamardinos et al. 2018) over the images, as if the best "
    "of all models tried had been picked, which flatters more than a row of gates does; the luck "
    "of seeds is not in it"
)
FEW_IMAGES = "; where a class has few images, the interval is too narrow"


@stage_task(SelectionSpec)
def selection(spec: SelectionSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store one row: the number of decisions on held-out images, optimism, corrected score."""
    verdicts = [inputs.facts(gate) for gate in spec.gates]
    decided = sum(not v["forced"] and v["rule"] not in REPLAYED for v in verdicts)
    survivor = spec.models[0].name
    for verdict in verdicts:
        kept = "candidate" if verdict["decision"] == "forward" else "incumbent"
        survivor = verdict[kept]
    models = [model.name for model in spec.models]
    # Of each model, the higher the better.
    values = np.stack([_values(model, spec.metric, inputs) for model in spec.models])
    found = optimism(values, generator(spec.seed, "optimism"))
    row = {
        "looks": decided + spec.epochs_chosen,
        "models": len(models),
        "survivor": survivor,
        "metric": spec.metric,
        **_scores(spec.metric, float(values[models.index(survivor)].mean()), found),
        "method": METHOD + (FEW_IMAGES if spec.metric == "balanced_accuracy" else ""),
    }
    outputs.table(SELECTION, from_rows(OPTIMISM, [row]))
    return row


def _scores(metric: Metric, survivor: float, found: Optimism) -> dict[str, float]:
    """The scores of a row, as people know them: log losses are positive, shares at most 1."""
    ends = (found.low, found.high)
    if metric == "log_loss":
        ends = (-found.high, -found.low)
    else:
        # Few images of a class, weighted by their rarity, may add up to more.
        ends = (max(0.0, ends[0]), min(1.0, ends[1]))
    sign = -1 if metric == "log_loss" else 1
    return {
        "val_score": sign * survivor,
        "optimism": found.optimism,
        "best_corrected": sign * found.corrected,
        "best_corrected_low": ends[0],
        "best_corrected_high": ends[1],
    }


def _values(model: Model, metric: Metric, inputs: Inputs) -> Float64:
    """Return what each held-out image adds to a model's score, as a mean over replicates."""

    def value(stage: str) -> NDArray[Any]:
        held_out = scored(inputs, stage, VALIDATION)
        return -held_out.loss if metric == "log_loss" else held_out.correct

    mean = by_image(model, inputs, value)
    if metric == "balanced_accuracy":
        # Labels are the same in all replicates, and so is their mean.
        labels = by_image(model, inputs, lambda stage: scored(inputs, stage, VALIDATION).label)
        mean = mean * Strata.by(labels.astype(np.int64)).weights()
    return mean
