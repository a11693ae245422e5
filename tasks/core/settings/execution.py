"""Settings of where and how the numbers are computed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.settings.base import Spec


class ExecutionSettings(Spec):
    """Where and how the numbers are computed; part of the key of every numerical stage."""

    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="auto: a GPU where one is visible and CUDA's libraries are installed.",
    )
    threads: int = Field(
        2, ge=1, le=256, description="Threads of TensorFlow's operations; changes the last bits."
    )
    workers: int = Field(
        2, ge=1, le=64, description="Stages that run side by side; changes no result."
    )
