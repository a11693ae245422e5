"""Count the decisions made on held-out images, and estimate how much they bias the best score."""

from __future__ import annotations

import numpy as np

from tasks.core.array_types import Bool
from tasks.core.names import SELECTION, VALIDATION
from tasks.core.seeds import generator
from tasks.core.stage_specs import SelectionSpec
from tasks.core.statistics.optimism import optimism
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

    def right(stage: str) -> Bool:
        return scored(inputs, stage, VALIDATION).correct

    # Of each model and image, the fraction of replicates that classify it correctly.
    correct = np.stack([by_image(model, inputs, right) for model in spec.models])
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
