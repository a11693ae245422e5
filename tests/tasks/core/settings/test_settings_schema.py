"""The JSON schema of the settings, which Prefect shows as the form for a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from tasks.core.settings.run_settings import Settings


def leaves(schema: dict[str, Any], whole: dict[str, Any], path: str = "") -> Iterator[Any]:
    """Every field of a JSON schema that is no group of settings itself, with its path."""
    for name, field in schema["properties"].items():
        inner = [field, *field.get("anyOf", []), field.get("items", {})]
        groups = [part["$ref"].rpartition("/")[2] for part in inner if "$ref" in part]
        if groups:
            yield from leaves(whole["$defs"][groups[0]], whole, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


SCHEMA = Settings.model_json_schema()
LEAVES = dict(leaves(SCHEMA, SCHEMA))


def test_the_schema_reaches_every_group() -> None:
    assert {
        "seed",
        "subset.method",
        "overfitting.epochs",
        "overfitting.augmentation.zoom_range",
        "plan.change",
        "transfer.corrected.learning_rate",
        "execution.device",
    } <= set(LEAVES)
    assert len(LEAVES) > 50


def test_each_field_of_the_form_explains_itself() -> None:
    for name, field in LEAVES.items():
        assert field["title"], name
        assert field["description"].endswith("."), name
        assert "default" in field or name in ("plan.name", "plan.change"), name


LOWER, UPPER = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}


def test_each_number_of_the_form_has_bounds() -> None:
    bounded = set()
    for name, field in LEAVES.items():
        for part in (field, *field.get("anyOf", []), field.get("items", {})):
            if part.get("type") in ("integer", "number") and "enum" not in part:
                assert part.keys() & LOWER, name
                assert part.keys() & UPPER, name
                bounded.add(name)
    assert {
        "seed",
        "overfitting.epochs",
        "overfitting.dense",
        "transfer.as_notebook.dropout",
    } <= bounded


def test_the_form_s_defaults_and_choices() -> None:
    assert LEAVES["synthetic.train"]["default"] == 60_000
    assert LEAVES["subset.method"]["enum"] == ["auto", "slices", "stratified", "everything"]
    assert LEAVES["overfitting.learning_rate"]["exclusiveMinimum"] == 0
    assert math.isclose(LEAVES["transfer.as_notebook.learning_rate"]["default"], 1e-5)
    assert SCHEMA["additionalProperties"] is False
