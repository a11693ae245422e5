"""The trainings that judge a model: one for each seed, and for each fold if there are folds."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.core.names import replicate_suffix
from tasks.core.seeds import generator
from tasks.core.settings.evaluation import EvaluationSettings


@dataclass(frozen=True)
class Replicate:
    """One of a model's trainings.

    Attributes:
        number: the number of its seed, from 1; all models share the seeds.
        fold: the fold held out, from 1; None if the validation split is held out.
        seed: the seed of initial weights, order, dropout and augmentation.
    """

    number: int
    fold: int | None
    seed: int

    @property
    def suffix(self) -> str:
        """The suffix of the training's stage name, e.g. `_f2_r3`."""
        return replicate_suffix(self.number, self.fold)


def replicates(evaluation: EvaluationSettings, seed: int) -> tuple[Replicate, ...]:
    """Every training of a model; the first uses the run's own seed."""
    folds = range(1, evaluation.folds + 1) if evaluation.protocol == "kfold" else (None,)
    return tuple(
        Replicate(number, fold, _seed(seed, number, fold))
        for number in range(1, evaluation.replicates + 1)
        for fold in folds
    )


def final_replicates(evaluation: EvaluationSettings, seed: int) -> tuple[Replicate, ...]:
    """The final model's trainings, which hold no images out: one for each seed."""
    return replicates(evaluation.model_copy(update={"protocol": "holdout"}), seed)


def _seed(seed: int, number: int, fold: int | None) -> int:
    """The run's own seed for the first training, a drawn one for each other; in [0, 2**31)."""
    if number == 1 and fold in (None, 1):
        return seed
    return int(generator(seed, "replicate", number, fold or 0).integers(2**31))
