"""A flow that says which GPUs it is given, for the tests of workers."""

from __future__ import annotations

import os
from pathlib import Path

from prefect import flow


@flow
def look(path: str) -> None:
    """Write what CUDA would see into a file."""
    Path(path).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "everything"))
