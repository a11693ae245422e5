"""Settings of the computation: device, threads and parallel stages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.core.settings.base import Spec


class ExecutionSettings(Spec):
    """How stages are computed: device, threads and parallel stages."""

    device: Literal["auto", "cpu", "gpu"] = Field(
        "auto",
        description="auto: use a GPU if one is visible and CUDA's libraries are installed.",
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description=(
            "bfloat16, float16: on GPUs, trainings of families stack, compact and residual compute "
            "in it and keep their weights in float32. Functions, applications and transfer from "
            "VGG16 train in float32. What is saved and scored computes in float32."
        ),
    )
    threads: int = Field(
        2,
        ge=1,
        le=256,
        description="Threads per TensorFlow operation; changes the last digits of results.",
    )
    workers: int = Field(
        2, ge=1, le=64, description="Stages computed at the same time; does not change any result."
    )
