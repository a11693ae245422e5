"""What all groups of settings share: bounded types, the base class, and readable errors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tasks.core.errors import UserError
from tasks.core.messages import quoted

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

    @model_validator(mode="before")
    @classmethod
    def _none_is_a_word(cls, values: Any) -> Any:
        """Where `none` is one of a setting's words, None means it: `--set` reads `none` as None."""
        if not isinstance(values, Mapping):
            return values
        words = {
            name
            for name, field in cls.model_fields.items()
            if get_origin(field.annotation) is Literal and "none" in get_args(field.annotation)
        }
        return {
            name: "none" if value is None and name in words else value
            for name, value in values.items()
        }


S = TypeVar("S", bound=Spec)


def changed(settings: S, change: Mapping[str, Any]) -> S:
    """Replace the fields in `change`, see `merged`, and validate everything again.

    Raises:
        UserError: an unknown field or a value out of range; the message names the field.
    """
    try:
        return type(settings).model_validate(merged(settings.model_dump(), change))
    except ValidationError as error:
        raise UserError(explain(error, f"change to {type(settings).__name__}")) from None


def merged(fields: Mapping[str, Any], change: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """Nested fields with a change, which is not validated.

    A name with dots leads into a group, e.g. `optimizer.name`; a name without them replaces a whole
    group. The value `{"times": 2}` multiplies a number, or each of several; whole numbers are
    rounded.

    Raises:
        UserError: a name leads into something that is no group, or something that is no number
            is to be multiplied.
    """
    found = dict(fields)
    for name, value in change.items():
        first, _, rest = name.partition(".")
        whole = f"{group}{first}"
        if rest:
            inner = found.get(first)
            if not isinstance(inner, Mapping):
                raise UserError(
                    f"{quoted(f'{whole}.{rest}')}: {quoted(whole)} is no group of settings now; "
                    "set the group as a whole, or check its name."
                )
            found[first] = merged(inner, {rest: value}, f"{whole}.")
        elif isinstance(value, Mapping) and set(value) == {"times"}:
            found[first] = _times(whole, found.get(first), value["times"])
        else:
            found[first] = value
    return found


def _times(name: str, value: Any, factor: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_times(name, each, factor) for each in value)
    numbers = all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)
        for one in (value, factor)
    )
    if not numbers:
        raise UserError(
            f"{quoted(name)}: {quoted(value)} can't be multiplied by {quoted(factor)}; give a "
            "number, or the new value itself."
        )
    return round(value * factor) if isinstance(value, int) else value * factor


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
