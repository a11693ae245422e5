"""What all groups of settings share: bounded types, the base class, and readable errors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.core.errors import UserError

Count = Annotated[int, Field(strict=True, ge=1, le=10_000_000)]

# A part of the images that there are.
Share = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]

Epochs = Annotated[int, Field(strict=True, ge=1, le=10_000)]

BatchSize = Annotated[int, Field(strict=True, ge=1, le=65_536)]

LearningRate = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]

Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]

Units = Annotated[int, Field(strict=True, ge=1, le=65_536)]

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]


class Spec(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


S = TypeVar("S", bound=Spec)


def changed(settings: S, change: dict[str, Any]) -> S:
    """Replace the fields in `change` and validate everything again.

    Raises:
        UserError: an unknown field or a value out of range; the message names the field.
    """
    try:
        return type(settings).model_validate(settings.model_dump() | change)
    except ValidationError as error:
        raise UserError(explain(error, f"change to {type(settings).__name__}")) from None


def explain(error: ValidationError, origin: str, known: Collection[str] = ()) -> str:
    """Turn Pydantic's findings into one readable message that names each wrong field.

    For an unknown name, the message suggests the most similar of the `known` names, if any.
    """
    lines = [_explain_one(finding, known) for finding in error.errors()]
    return f"{origin}: " + "; ".join(dict.fromkeys(lines))


def _explain_one(finding: Any, known: Collection[str]) -> str:
    where = _dotted(finding["loc"])
    message = finding["msg"].removeprefix("Value error, ")
    if finding["type"] == "extra_forbidden":
        near = get_close_matches(where, known, n=1, cutoff=0.75)
        message = "no such setting" + (f"; did you mean {near[0]}?" if near else "")
    elif finding["type"] not in ("value_error", "missing"):
        message += f" (got {finding['input']!r})"
    return f"{where}: {message}" if where else message


def _dotted(location: Sequence[int | str]) -> str:
    """The field's name, without Pydantic's names for members of a union."""
    parts = (str(part) for part in location)
    return ".".join(part for part in parts if "[" not in part and part != "constrained-int")
