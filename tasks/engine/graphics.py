"""What decides the results of this machine's GPUs: their models, CUDA's libraries, the driver."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import distributions
from pathlib import Path

GPUS = Path("/proc/driver/nvidia/gpus")
DRIVER = Path("/proc/driver/nvidia/version")
UNKNOWN = "unknown"


def graphics(visible: Sequence[str]) -> dict[str, str]:
    """The models of these GPUs, and the versions of CUDA's libraries and of the driver.

    Args:
        visible: as `CUDA_VISIBLE_DEVICES` names them: numbers, in the order of the PCI bus, which
            `CUDA_DEVICE_ORDER` then makes CUDA's own, or parts of their UUIDs.
    """
    found = [_described(path) for path in sorted(GPUS.glob("*/information"))]
    by_number = {str(number): model for number, (model, _) in enumerate(found)}
    models = {
        by_number.get(name) or next((model for model, uuid in found if uuid.startswith(name)), "")
        for name in visible
    }
    # A slice of a GPU (MIG) is not listed; its whole name tells it from others.
    slices = {name for name in visible if name.startswith("MIG-")}
    libraries = {
        f"{name.removeprefix('nvidia-')} {one.version}"
        for one in distributions()
        if (name := (one.metadata["Name"] or "").lower()).startswith("nvidia-")
    }
    return {
        "gpu": ", ".join(sorted({*models, *slices} - {""})) or UNKNOWN,
        "cuda": ", ".join(sorted(libraries)) or UNKNOWN,
        "driver": _driver(),
    }


def _described(path: Path) -> tuple[str, str]:
    """The model and the UUID of a GPU."""
    text = ""
    with suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="replace")
    model, uuid = (
        re.search(rf"^{name}:\s*(.+)$", text, re.MULTILINE) for name in ("Model", "GPU UUID")
    )
    return (model[1].strip() if model else UNKNOWN), (uuid[1].strip() if uuid else "")


def _driver() -> str:
    with suppress(OSError):
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", DRIVER.read_text(errors="replace"))
        if found:
            return found[1]
    return UNKNOWN
