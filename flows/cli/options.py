"""The options that `run`, `plan` and `deploy` share, each defined once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, get_args

from cyclopts import Parameter

from flows.cli.common_options import whole_number
from flows.planning.stage_selection import StageSelection
from flows.recipe.compose import asked
from flows.recipe.presets import PRESETS
from flows.recipe.settle import settled
from flows.runners.base import Runner, RunnerKind, runner_of
from tasks.core.errors import UserError
from tasks.core.settings.backbone import MODEL_FILES
from tasks.core.settings.evaluation import GivenRule, Metric, Protocol
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.transfer import TransferWeights

RequireSuccessFlag = Annotated[
    bool,
    Parameter("--require-success", help="Fail (status 3) if a success criterion is not met."),
]


# Choices are texts here and not `Literal`s: cyclopts takes "none" as None where that is allowed.


@Parameter("*")
@dataclass(frozen=True, kw_only=True)
class SettingsOptions:
    """The options of `run`, `plan` and `deploy` that affect results."""

    preset: Annotated[
        str,
        Parameter(
            choices=tuple(PRESETS),
            help=(
                "The settings to start from. notebook: as in the notebook. smoke: every stage, "
                "with few images and small networks. full: all images. modern: networks and "
                "training of today (docs/modern.md)."
            ),
        ),
    ] = "notebook"
    dataset: Annotated[
        str | None,
        Parameter(
            help=(
                "Your own images: the path or s3:// address of a folder, a table, arrays or an "
                "archive (docs/data.md). Or fashion-mnist, or synthetic (generated images). auto, "
                "the default of notebook and full: Fashion-MNIST, or synthetic if it is not "
                "available."
            )
        ),
    ] = None
    rule: Annotated[
        str | None,
        Parameter(
            choices=get_args(GivenRule),
            help=(
                "How a gate decides whether to keep a change. validation: by validation "
                "accuracy. significant: by a statistical test. one_standard_error: the simpler "
                "model, unless the other is clearly better. replay: as the plan says. notebook: "
                "as the notebook decided. auto, the default: replay a preset's decisions on the "
                "images that they were made on, otherwise validation."
            ),
        ),
    ] = None
    metric: Annotated[
        str | None,
        Parameter(
            choices=get_args(Metric),
            help=(
                "What gates and success criteria are judged by. balanced_accuracy: every class "
                "counts the same, however rare."
            ),
        ),
    ] = None
    protocol: Annotated[
        str | None,
        Parameter(
            choices=get_args(Protocol),
            help="Images to score models on. holdout: the validation split. kfold: each fold once.",
        ),
    ] = None
    replicates: Annotated[
        int | None,
        Parameter(
            converter=whole_number(1, 100),
            help="How many times to train each model, each with a different seed (1 to 100).",
        ),
    ] = None
    force: Annotated[
        tuple[str, ...],
        Parameter(
            help=(
                "Override a gate's decision, e.g. 4=forward or 4=back; repeatable. The gate of "
                "transfer, if there is one, has the number after the plan's last."
            )
        ),
    ] = ()
    plan: Annotated[
        Path | None, Parameter(help="TOML file with the changes to try one by one in step 7.")
    ] = None
    set_: Annotated[
        tuple[str, ...],
        Parameter("--set", help="Change a single setting, e.g. overfitting.epochs=3; repeatable."),
    ] = ()
    vgg16_weights: Annotated[
        Path | None,
        Parameter(
            "--vgg16-weights",
            help=(
                "File of VGG16 weights without top layers (.h5, .weights.h5). VGG16 then competes "
                "with the winner of step 7 at a last gate."
            ),
        ),
    ] = None
    backbone: Annotated[
        str | None,
        Parameter(
            help=(
                "Transfer from this network, too: its name in keras.applications, e.g. "
                "MobileNetV2, or a .keras or .h5 model."
            )
        ),
    ] = None
    transfer_weights: Annotated[
        str | None,
        Parameter(
            choices=get_args(TransferWeights),
            help=(
                "Weights that VGG16 starts from. imagenet: ImageNet's; if they are not available, "
                "VGG16 is skipped. required: ImageNet's; if they are not available, the run fails; "
                "VGG16 then competes with the winner of step 7 at a last gate. "
                "random: as a control. off: no transfer."
            ),
        ),
    ] = None

    @property
    def replaceable(self) -> bool:
        """Whether synthetic images may replace Fashion-MNIST: not if it was requested by name."""
        named = any(item.partition("=")[0].strip() == "dataset" for item in self.set_)
        return not named and self.dataset in (None, "auto")

    def settings(self) -> Settings:
        """The settings that a run with these options has.

        Raises:
            UserError: a setting is unknown, or a value has the wrong type or is out of range.
        """
        return settled(self.asked())

    def asked(self, folder: PurePath | None = None) -> Settings:
        """The settings composed from these options, with the rule as it was given.

        Args:
            folder: as for `flows.recipe.compose.asked`.

        Raises:
            UserError: as for `settings`.
        """
        given = {
            "dataset": "fashion-mnist" if self.dataset == "auto" else self.dataset,
            "rule": self.rule,
            "metric": self.metric,
            "evaluation.protocol": self.protocol,
            "evaluation.replicates": self.replicates,
        }
        values = {name: value for name, value in given.items() if value} | self._forced()
        if self.vgg16_weights:
            # A file implies transfer from it, even if the preset has random or no weights.
            values["transfer.weights"] = "imagenet"
            values["transfer.weights_file"] = str(self.vgg16_weights.expanduser().absolute())
        if self.backbone:
            values["transfer.backbone.name"] = _located(self.backbone)
        if self.transfer_weights:
            values["transfer.weights"] = self.transfer_weights
        return asked(self.preset, self.plan, values, self.set_, folder)

    def _forced(self) -> dict[str, Any]:
        decisions = {}
        for item in self.force:
            gate, sign, decision = item.partition("=")
            if not (sign and gate.isdecimal() and decision in ("forward", "back")):
                raise UserError(
                    f"--force {item}: expected a gate's number, then '=forward' or '=back', e.g. "
                    "--force 4=forward."
                )
            decisions[f"force.{int(gate)}"] = decision
        return decisions


@Parameter("*")
@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """The options of `run` and `plan` that select stages."""

    only: Annotated[
        tuple[str, ...],
        Parameter(help="Run only this stage and the missing ones that it needs; repeatable."),
    ] = ()
    from_: Annotated[
        tuple[str, ...],
        Parameter(
            "--from",
            help="Compute this stage and all that depend on it again; repeatable.",
        ),
    ] = ()
    refresh: Annotated[
        tuple[str, ...], Parameter(help="Compute this stage again; repeatable.")
    ] = ()

    def selection(self) -> StageSelection:
        """The stages that these options select."""
        return StageSelection(
            only=frozenset(self.only),
            refresh_from=frozenset(self.from_),
            refresh=frozenset(self.refresh),
        )


@Parameter("*")
@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """The options of `run`, `plan` and `deploy` that say where stages are computed."""

    runner: Annotated[
        str | None,
        Parameter(
            choices=get_args(RunnerKind),
            help=(
                "Where stages are computed. local: in this process. dask: in worker processes, "
                "several at a time."
            ),
        ),
    ] = None
    dask_address: Annotated[
        str | None,
        Parameter(
            help=(
                "A running Dask scheduler, tls://HOST:PORT or tcp://127.0.0.1:PORT; see "
                "docs/clusters.md."
            )
        ),
    ] = None

    def chosen(self) -> Runner:
        """The runner that these options name.

        Raises:
            UserError: the address is malformed, or neither encrypted nor on this machine.
        """
        return runner_of(self.runner, self.dask_address)


def _located(backbone: str) -> str:
    """A file's absolute path; the name of a network as it is."""
    if backbone.endswith(MODEL_FILES):
        return str(Path(backbone).expanduser().absolute())
    return backbone
