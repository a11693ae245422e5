"""Classify pictures with a trained model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.core.array_types import Float32, UInt8
from tasks.core.data.preprocessing import scaled
from tasks.core.errors import NumericalError, UserError
from tasks.core.messages import first_line
from tasks.core.settings.execution import ExecutionSettings
from tasks.models.model_lookup import TrainedModel
from tasks.models.usage import SCALED
from tasks.sources.pictures import Picture, Shown, Unreadable

if TYPE_CHECKING:
    import keras

# The batch size of evaluation: an image then gets the same probabilities to the last bit.
BATCH = 256


@dataclass(frozen=True)
class Prediction:
    """A model's output for one picture.

    Attributes:
        source: where the picture comes from.
        probabilities: `(classes,)` float32.
        inverted: whether the picture was inverted.
        unlike: whether its background differs from the training images', but it was not inverted.
        shown: the picture for a page, if one is wanted.
    """

    source: str
    probabilities: Float32
    inverted: bool
    unlike: bool
    shown: Shown | None

    def ranked(self, count: int) -> list[tuple[int, float]]:
        """The `count` most probable classes, as pairs of index and probability."""
        best = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(index), float(self.probabilities[index])) for index in best]


PictureOutcome = Prediction | Unreadable


def classify(
    pictures: Iterable[Picture | Unreadable], trained: TrainedModel
) -> Iterator[PictureOutcome]:
    """Classify pictures in order; pass through those that could not be read.

    The model is loaded only when the first readable picture arrives.

    Raises:
        UserError: the model cannot be loaded or does not match its `usage.json`.
        NumericalError: the model's output is not finite.
    """
    classifier: Classifier | None = None
    for batch in _batches(pictures):
        images = [item.prepared.pixels for item in batch if isinstance(item, Picture)]
        if images:
            classifier = classifier or Classifier(trained)
            yield from _classified(batch, classifier.probabilities(np.stack(images)))
        else:
            yield from (item for item in batch if isinstance(item, Unreadable))


def _batches(items: Iterable[Picture | Unreadable]) -> Iterator[list[Picture | Unreadable]]:
    """Split the items into batches of `BATCH` pictures each; unreadable ones do not count."""
    batch: list[Picture | Unreadable] = []
    count = 0
    for item in items:
        batch.append(item)
        count += isinstance(item, Picture)
        if count == BATCH:
            yield batch
            batch, count = [], 0
    yield batch


def _classified(
    batch: list[Picture | Unreadable], probabilities: Float32
) -> Iterator[PictureOutcome]:
    rows = iter(probabilities)
    for item in batch:
        if isinstance(item, Unreadable):
            yield item
        else:
            seen = item.prepared
            yield Prediction(item.source, next(rows), seen.inverted, seen.unlike, item.shown)


class Classifier:
    """A loaded model that takes images in the format of its data set.

    Raises:
        UserError: the model cannot be loaded or does not match its `usage.json`.
    """

    def __init__(self, trained: TrainedModel) -> None:
        from tasks.engine.profile import configure, resolve_profile

        configure(resolve_profile(ExecutionSettings()))
        self._usage = trained.usage
        self._model = _loaded(trained)

    def probabilities(self, images: UInt8) -> Float32:
        """Class probabilities `(n, classes)` of images `(n, height, width, channels)`.

        Raises:
            NumericalError: the model's output is not finite.
        """
        import keras

        expected = self._usage.input
        x, step = scaled(images), len(images)
        if expected.method != SCALED:
            from tasks.core.networks.vgg16 import batch_size

            step = batch_size(expected.shape[1])
        parts = [
            keras.ops.convert_to_numpy(
                self._model(self._as_input(x[start : start + step]), training=False)
            )
            for start in range(0, len(x), step)
        ]
        found: Float32 = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise NumericalError(
                "the model's output contains NaN or infinite values, so it is unusable; use "
                "another model."
            )
        return found

    def _as_input(self, x: Float32) -> Float32:
        from tasks.core.networks.vgg16 import as_vgg16_input

        expected = self._usage.input
        if expected.method == SCALED:
            return x
        return as_vgg16_input(x, expected.shape[1], expected.method)


def _loaded(trained: TrainedModel) -> keras.Model:
    from tasks.models.model_files import load_keras

    try:
        model: Any = load_keras(trained.path)
        shapes = (model.input_shape, model.output_shape)
    except Exception as error:
        # Keras raises many kinds of errors for files that are not models.
        raise UserError(
            f"{trained.path}: Keras cannot load it ({first_line(error)}); copy the model again."
        ) from error
    usage = trained.usage
    expected = ((None, *usage.input.shape[1:]), (None, len(usage.class_names)))
    fits = usage.input.method != SCALED or usage.input.shape[1:] == usage.image.shape
    if shapes != expected or not fits:
        raise UserError(
            f"{trained.path}: the model maps {shapes[0]} to {shapes[1]}, but its usage.json says "
            f"{expected[0]} and {expected[1]}; they do not belong together; copy both again."
        )
    return model
