"""What every test may need: quiet logs, and TensorFlow in the state that a run brings it into."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

# Before anything imports Keras, TensorFlow or Prefect: they read these once.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")


@pytest.fixture(scope="session")
def tensorflow_ready() -> Mapping[str, Any]:
    """TensorFlow as a run on this machine's processor has it; the profile, for other processes."""
    from tasks.core.specs import ExecutionSettings
    from tasks.runtime import configure, resolve_profile

    profile = resolve_profile(ExecutionSettings(device="cpu"))
    configure(profile)
    return profile
