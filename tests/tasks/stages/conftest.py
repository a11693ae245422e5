"""A workbench for each test of a stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.stages.workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture
def keras_bench(tmp_path: Path, tensorflow_ready: Mapping[str, Any]) -> Workbench:
    """For stages that compute with Keras."""
    return Workbench(tmp_path, tensorflow_ready)
