"""A model of an earlier run in the same store, as the backbone of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.recipe import stages
from tasks.core.errors import UserError
from tasks.core.names import (
    BACKBONE,
    EARLIER,
    EARLIER_BACKBONE,
    EARLIER_SPLIT,
    LOAD,
    MODEL,
    SEEN,
    SUBSET,
    TRAIN,
    TRAINING_SPLITS,
    USAGE,
)
from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_specs import RetrainSpec
from tasks.core.transfer_specs import BackboneTrainSpec, Vgg16RetrainSpec
from tasks.models.model_lookup import model_of
from tasks.storage.run_log import RunLog
from tasks.storage.store import Store


@dataclass(frozen=True)
class EarlierModel:
    """The results of the earlier run that the backbone's stage reads.

    Attributes:
        records: by role: the model, the images that it was trained on, and its own backbone.
        reads: the files of each of them that are read.
        trained_on: the splits, and `seen` for what the model's own backbone was trained on.
    """

    records: Mapping[str, Record]
    reads: Mapping[str, tuple[str, ...]]
    trained_on: tuple[str, ...]


def find_earlier(store: Store, settings: Settings) -> EarlierModel:
    """Find the model that `transfer.backbone.name` names as `run:<run id>/<model>`.

    Raises:
        UserError: there is no such model, its images are not known, or they can't be compared with
            those of this run.
    """
    assert settings.transfer.backbone.earlier is not None
    run_id, name = settings.transfer.backbone.earlier
    run, model = model_of(store, name, run_id)
    split = run.record(SUBSET)
    if split is None:
        raise UserError(
            f"transfer.backbone.name: run {run_id} has no stage {SUBSET} in its log, so it is not "
            "known which images its models were trained on; use a model of another run."
        )
    _refuse_another_format(run, settings)
    trained_on = _splits(model)
    records = {EARLIER: model, EARLIER_SPLIT: split}
    reads = {EARLIER: (MODEL, USAGE), EARLIER_SPLIT: trained_on}
    before = run.record(BACKBONE) if model.kind == BackboneTrainSpec.kind else None
    if before is not None and SEEN in before.files:
        records[EARLIER_BACKBONE], reads[EARLIER_BACKBONE] = before, (SEEN,)
        trained_on = (*trained_on, SEEN)
    return EarlierModel(records, reads, trained_on)


def _splits(model: Record) -> tuple[str, ...]:
    """The splits of its run that a model was trained on; of those with folds, a part of both."""
    both = model.kind in (RetrainSpec.kind, Vgg16RetrainSpec.kind)
    return TRAINING_SPLITS if both or model.basis["settings"].get("fold") else (TRAIN,)


def _refuse_another_format(run: RunLog, settings: Settings) -> None:
    """Refuse the same data set read in another size or colour: no image would be found again."""
    record = run.record(LOAD)
    theirs = (record.basis["settings"].get("own") if record else None) or {}
    mine = stages.load(settings).spec.as_json()["own"] or {}
    if mine and theirs.get("content") == mine["content"] and theirs["images"] != mine["images"]:
        raise UserError(
            f"transfer.backbone.name: run {run.run_id} read the same data set with other settings "
            "of images.*, so it is not known which of this run's images its models were trained "
            "on. Give both runs the same settings of images.*."
        )
