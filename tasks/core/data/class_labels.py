"""Labels of any form as the names of classes, or a refusal that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.core.errors import UserError
from tasks.core.messages import first_line, listed, quoted

_EXPECTED = "expected one class per image: whole numbers or strings of shape (n,)"


@dataclass(frozen=True)
class Labels:
    """The labels of some images: `(n,)`, or one-hot `(n, classes)`; `origin` names them."""

    values: NDArray[Any]
    count: int
    origin: str


@dataclass(frozen=True)
class Named:
    """For each `Labels`, the class of each image; and a sentence about what was assumed, if any."""

    classes: list[list[str]]
    note: str | None = None


def named(parts: Sequence[Labels], names: Sequence[str] | None) -> Named:
    """The classes of the images of all splits.

    Without `names`, a class that is a number is called by it. With `names`, numbers index them from
    0, or from 1 if only that fits; strings must be among them.

    Raises:
        UserError: there is not exactly one label for each image, or it names no class.
    """
    found = [_flat(part) for part in parts]
    kinds = {values.dtype.kind.replace("u", "i") for values in found}
    if len(kinds) > 1:
        kinds_listed = listed(sorted({str(values.dtype) for values in found}))
        raise UserError(
            f"{parts[0].origin}: the splits' labels are of several kinds ({kinds_listed}); write "
            "all as numbers or all as strings."
        )
    if "U" in kinds:
        for part, values in zip(parts, found, strict=True):
            _check_strings(values, names, part.origin)
        return Named([values.tolist() for values in found])
    if names is None:
        return Named([[str(value) for value in values.tolist()] for values in found])
    start = _start(found, names, parts[0].origin)
    classes = [[names[int(value) - start] for value in values] for values in found]
    note = f"labels 1 to {len(names)} were taken as the {len(names)} classes in order"
    return Named(classes, note if start else None)


def _flat(part: Labels) -> NDArray[Any]:
    """`(n,)` int64 or another integer type, bool or str."""
    values, origin = part.values, part.origin
    if values.dtype.kind not in "biufUS":
        raise UserError(f"{origin}: labels have dtype {quoted(values.dtype.str)}; {_EXPECTED}.")
    if values.ndim and values.size == part.count:
        values = values.reshape(-1)
    elif values.ndim == 2 and len(values) == part.count:
        return _from_one_hot(values, origin)
    if values.ndim != 1:
        raise UserError(f"{origin}: labels have shape {values.shape}; {_EXPECTED}.")
    if len(values) != part.count:
        raise UserError(
            f"{origin}: {part.count} images but {len(values)} labels; each image needs one label."
        )
    if values.dtype.kind == "f":
        return _whole(values, origin)
    return _decoded(values, origin) if values.dtype.kind in "US" else values


def _from_one_hot(values: NDArray[Any], origin: str) -> NDArray[Any]:
    if values.dtype.kind in "US" or not values.size:
        raise UserError(f"{origin}: labels have shape {values.shape}; {_EXPECTED}.")
    marked = values != 0
    wrong = np.flatnonzero((marked.sum(axis=1) != 1) | (values.max(axis=1) != 1))
    if len(wrong):
        raise UserError(
            f"{origin}: labels of shape {values.shape} are not one-hot: row {wrong[0]} is "
            f"{quoted(values[wrong[0]].tolist())}. Images with several or no classes can't be "
            f"learned; {_EXPECTED}."
        )
    numbers: NDArray[np.int64] = np.argmax(marked, axis=1)
    return numbers


def _whole(values: NDArray[Any], origin: str) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    broken = np.flatnonzero(whole != values)
    if len(broken):
        raise UserError(
            f"{origin}: label {quoted(values[broken[0]].item())} at {broken[0]} is no whole "
            f"number; {_EXPECTED}."
        )
    return whole


def _decoded(values: NDArray[Any], origin: str) -> NDArray[Any]:
    """Strings without blanks around them; one that is empty is no class."""
    try:
        texts = np.char.strip(strings(values))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{origin}: labels are bytes that are not UTF-8 ({first_line(error)}); write them as "
            "strings."
        ) from error
    empty = np.flatnonzero(texts == "")
    if len(empty):
        raise UserError(f"{origin}: the label at {empty[0]} is empty; {_EXPECTED}.")
    return texts


def strings(values: NDArray[Any]) -> NDArray[np.str_]:
    """Strings, or bytes in UTF-8, as strings.

    Raises:
        UnicodeDecodeError: the bytes are not UTF-8.
    """
    if values.dtype.kind != "S":
        return values
    texts: NDArray[np.str_] = np.char.decode(values, "utf-8")
    return texts


def _check_strings(values: NDArray[Any], names: Sequence[str] | None, origin: str) -> None:
    unknown = sorted(set(values.tolist()) - set(names or ()))
    if names is not None and unknown:
        raise UserError(
            f"{origin}: no class is called {listed([quoted(name) for name in unknown], 60)}; "
            f"expected the {len(names)} class names: {listed(names, 100)}."
        )


def _start(found: Sequence[NDArray[Any]], names: Sequence[str], origin: str) -> int:
    """The label of the first class: 0, or 1 if only that fits."""
    numbers = sorted({int(number) for values in found for number in np.unique(values)})
    if numbers[0] >= 0 and numbers[-1] < len(names):
        return 0
    if numbers[0] == 1 and numbers[-1] == len(names):
        return 1
    outside = [number for number in numbers if not 0 <= number < len(names)]
    raise UserError(
        f"{origin}: label {listed(outside, 60)} has no class; expected labels from 0 to "
        f"{len(names) - 1}, one for each of the {len(names)} classes: {listed(names, 100)}. Give "
        "each class a name."
    )
