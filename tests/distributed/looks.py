"""A flow that reports which GPUs it sees, for tests of workers."""

from __future__ import annotations

import os
from pathlib import Path

from prefect import flow


@flow
def look(path: str) -> None:
    """Write the GPUs that CUDA would see to a file."""
    Path(path).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "everything"))
