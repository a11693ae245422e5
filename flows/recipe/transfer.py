"""Part 3 of the notebook: transfer from VGG16, as the notebook does it and corrected."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipe.stages import TRAINING_SPLITS, curves
from tasks.core.errors import UserError
from tasks.core.networks.vgg16_layout import block_below
from tasks.core.records import FACTS, Stage
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.transfer import VARIANTS, TransferVariant

if TYPE_CHECKING:
    from flows.recipe.contents import Run


def transfer(run: Run, settings: Settings, arrays: Any) -> dict[str, Any]:
    """The frozen layers once, a head on their outputs, then the last block fine-tuned."""
    given = run(weights(settings))
    made = {"vgg16_weights": given}
    for suffix, variant in variants(settings).items():
        below, last = features(settings, variant)
        if below.name not in made:
            made[below.name] = run(below, source=arrays, weights=given)
        if last.name not in made:
            made[last.name] = run(last, source=made[below.name], weights=given)
        head = frozen(settings, suffix, variant)
        made[head.name] = run(head, features=made[last.name], weights=given)
        tuning = fine_tuned(settings, suffix, variant)
        made[tuning.name] = run(tuning, features=made[below.name], start=made[head.name])
        for model in (head.name, tuning.name):
            drawing = curves(model, [model], settings, variant)
            made[drawing.name] = run(drawing, **{model: made[model]})
    return made


def weights(settings: Settings) -> Stage:
    """The weights of VGG16's base."""
    transfer = settings.transfer
    values: dict[str, Any] = {"source": "imagenet"}
    external: tuple[str, ...] = ()
    if transfer.weights == "random":
        values = {"source": "random", "seed": settings.seed}
    elif transfer.weights_file:
        path = Path(transfer.weights_file).expanduser()
        if not path.is_file():
            raise UserError(f"transfer.weights_file: there is no file {path}.")
        values, external = {"source": "file"}, (str(path),)
    optional = transfer.weights != "required"
    return Stage(
        "vgg16_weights",
        "vgg16_weights",
        values,
        external=external,
        optional=optional,
    )


def variants(settings: Settings) -> dict[str, TransferVariant]:
    """The ways of transfer that a run goes, by what their stages' names end in."""
    transfer = settings.transfer
    if transfer.weights == "off":
        return {}
    return {
        suffix: getattr(transfer, name)
        for suffix, name in VARIANTS.items()
        if transfer.variant in ("both", name)
    }


def features(settings: Settings, variant: TransferVariant) -> tuple[Stage, Stage]:
    """Outputs of the layers below the last block, and of that block.

    They are called after the first variant that needs them; another one shares them.
    """
    names: dict[tuple[Any, ...], str] = {}
    for suffix, other in variants(settings).items():
        for layer in _feature_layers(other):
            name = f"vgg16_{layer.removesuffix('_pool')}{suffix}"
            names.setdefault((other.side, other.preprocessing, layer), name)
    below, last = _feature_layers(variant)
    found = []
    for after, up_to in ((None, below), (below, last)):
        values = {"side": variant.side, "after": after, "up_to": up_to}
        if after is None:
            values["preprocessing"] = variant.preprocessing
        reads = {"source": (*TRAINING_SPLITS, FACTS), "weights": ("weights",)}
        name = names[variant.side, variant.preprocessing, up_to]
        found.append(Stage(name, "vgg16_features", values, reads, numerical=True))
    return found[0], found[1]


def inputs_kept(settings: Settings) -> dict[str, str]:
    """The variants by the stage that keeps what VGG16 was given; the first of two that share it."""
    found: dict[tuple[int, str], tuple[str, str]] = {}
    for suffix, variant in variants(settings).items():
        below, _ = features(settings, variant)
        found.setdefault((variant.side, variant.preprocessing), (below.name, VARIANTS[suffix]))
    return dict(found.values())


def _feature_layers(variant: TransferVariant) -> tuple[str, str]:
    return block_below(variant.features), variant.features


def frozen(settings: Settings, suffix: str, variant: TransferVariant) -> Stage:
    """Training of a head on the outputs of VGG16's frozen layers."""
    values = {
        "training": _transfer_training(variant, variant.epochs, variant.learning_rate),
        "head": {"dense": variant.dense, "dropout": variant.dropout},
        "side": variant.side,
        "preprocessing": variant.preprocessing,
        "after": variant.features,
        "seed": settings.seed,
    }
    reads = {"features": (*TRAINING_SPLITS, FACTS), "weights": ("weights",)}
    return Stage(f"vgg16_frozen{suffix}", "vgg16_train", values, reads, numerical=True)


def fine_tuned(settings: Settings, suffix: str, variant: TransferVariant) -> Stage:
    """Training of the head and of VGG16's last block, from where the frozen stage ended."""
    rate = variant.fine_tune_learning_rate
    values = {
        "training": _transfer_training(variant, variant.fine_tune_epochs, rate),
        "preprocessing": variant.preprocessing,
        "after": block_below(variant.features),
        "seed": settings.seed,
    }
    reads = {"features": (*TRAINING_SPLITS, FACTS), "start": ("model",)}
    return Stage(f"vgg16_fine_tuned{suffix}", "vgg16_train", values, reads, numerical=True)


def _transfer_training(variant: TransferVariant, epochs: int, rate: float) -> dict[str, Any]:
    shared = {name: getattr(variant, name) for name in ("batch_size", "loss", "decay")}
    return {"epochs": epochs, "learning_rate": rate, **shared}
