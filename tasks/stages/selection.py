"""Count how often validation images decided, and how much that flatters the model chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.core.seeds import generator
from tasks.core.statistics.optimism import optimism
from tasks.engine.stage import Facts, Inputs, Outputs, stage_task
from tasks.models.prediction_tables import scored

METHOD = (
    "bootstrap bias correction (BBC-CV, Tsamardinos et al. 2018) over the images, as if the best "
    "of all models tried had been picked, which flatters more than a row of gates does; the luck "
    "of seeds is not in it"
)


@stage_task()
def selection(settings: Mapping[str, Any], inputs: Inputs, outputs: Outputs) -> Facts:
    """Leave a table of one row: looks at validation images, optimism, what is left without it."""
    verdicts = [inputs.facts(gate) for gate in settings["gates"]]
    decided = sum(not v["forced"] and v["rule"] != "notebook" for v in verdicts)
    survivor = settings["models"][0]["name"]
    for verdict in verdicts:
        kept = "candidate" if verdict["decision"] == "forward" else "incumbent"
        survivor = verdict[kept]
    models = [model["name"] for model in settings["models"]]
    correct = np.stack([_correct(model, inputs) for model in settings["models"]])
    rng = generator(settings["seed"], "optimism")
    found = optimism(correct, rng)
    row = {
        "looks": decided + settings["epochs_chosen"],
        "models": len(models),
        "survivor": survivor,
        "val_accuracy": float(correct[models.index(survivor)].mean()),
        "optimism": found.optimism,
        "best_corrected": found.corrected,
        "best_corrected_low": found.low,
        "best_corrected_high": found.high,
        "method": METHOD,
    }
    outputs.table("selection", pa.Table.from_pylist([row]))
    return row


def _correct(model: Mapping[str, Any], inputs: Inputs) -> NDArray[np.float64]:
    """The share of a model's trainings that get each held-out image right."""
    rights: dict[int, NDArray[np.float64]] = {}
    for training in model["trainings"]:
        right = scored(inputs, training["stage"], "validation").correct.astype(np.float64)
        number = training["replicate"]
        if training["fold"]:
            deal = "folds" + (f"_r{number}" if number > 1 else "")
            fold = inputs.table(deal, "folds")["fold"].to_numpy()
            rights.setdefault(number, np.empty(len(fold)))[fold == training["fold"]] = right
        else:
            rights[number] = right
    mean: NDArray[np.float64] = np.mean(list(rights.values()), axis=0)
    return mean
