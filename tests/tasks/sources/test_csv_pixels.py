"""How a table of pixels is written is told from its first lines."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tasks.core.data.pixel_values import Span
from tasks.sources.csv_pixels import dialect, dtype_of


@pytest.mark.parametrize("line", [0, 1])
def test_a_field_longer_than_any_of_pixels(line: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [",".join(map(str, range(17))), ",".join(["7"] * 17)]
    rows[line] = "x" * (csv.field_size_limit() + 1)
    path.write_text("\n".join(rows))
    assert dialect(path) is None


@pytest.mark.parametrize(
    ("dtypes", "span", "expected"),
    [
        (["int64"], Span(0, 255), "uint8"),
        (["int64"], Span(0, 256), "int64"),
        (["int64"], Span(-1, 9), "int64"),
        (["int64", "float64"], Span(0, 255), "float64"),
        (["bool"], Span(0, 1), "bool"),
        ([], Span(), "uint8"),
    ],
)
def test_the_type_of_all_chunks(dtypes: list[str], span: Span, expected: str) -> None:
    assert dtype_of([np.dtype(dtype) for dtype in dtypes], span) == expected
