"""Count the decisions made on held-out images, and estimate how much they bias the best score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.core.names import FOLDS, SELECTION, VALIDATION, folds_name
from tasks.core.seeds import generator
from tasks.core.stage_specs import Model, SelectionSpec
from tasks.core.statistics.optimism import optimism
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.results import OPTIMISM
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.stored_predictions import scored

METHOD = (
    "bootstrap bias correction (BBC-CV, Tsamardinos et al. 2018) over the images, as if the best "
    "of all models tried had been picked, which flatters more than a row of gates does; the luck "
    "of seeds is not in it"
)


@stage_task(SelectionSpec)
def selection(spec: SelectionSpec, inputs: Inputs, outputs: Outputs) -> Facts:
    """Store one row: the number of decisions on held-out images, optimism, corrected score."""
    verdicts = [inputs.facts(gate) for gate in spec.gates]
    decided = sum(not v["forced"] and v["rule"] != "notebook" for v in verdicts)
    survivor = spec.models[0].name
    for verdict in verdicts:
        kept = "candidate" if verdict["decision"] == "forward" else "incumbent"
        survivor = verdict[kept]
    models = [model.name for model in spec.models]
    correct = np.stack([_correct(model, inputs) for model in spec.models])
    rng = generator(spec.seed, "optimism")
    found = optimism(correct, rng)
    row = {
        "looks": decided + spec.epochs_chosen,
        "models": len(models),
        "survivor": survivor,
        "val_accuracy": float(correct[models.index(survivor)].mean()),
        "optimism": found.optimism,
        "best_corrected": found.corrected,
        "best_corrected_low": found.low,
        "best_corrected_high": found.high,
        "method": METHOD,
    }
    outputs.table(SELECTION, from_rows(OPTIMISM, [row]))
    return row


def _correct(model: Model, inputs: Inputs) -> NDArray[np.float64]:
    """Return, for each held-out image, the fraction of replicates that classify it correctly."""
    rights: dict[int, NDArray[np.float64]] = {}
    for training in model.trainings:
        right = scored(inputs, training.stage, VALIDATION).correct.astype(np.float64)
        number = training.replicate
        if training.fold:
            fold = inputs.table(folds_name(number), FOLDS)["fold"].to_numpy()
            rights.setdefault(number, np.empty(len(fold)))[fold == training.fold] = right
        else:
            rights[number] = right
    mean: NDArray[np.float64] = np.mean(list(rights.values()), axis=0)
    return mean
