"""What the processor can do, as far as it decides which code libraries choose for the same formula.

Found without importing TensorFlow: `plan` needs it, and takes less than a second.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path
from typing import Any

from tasks.core.errors import UserError
from tasks.core.messages import quoted
from tasks.core.records import digest_of

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
UNKNOWN = "unknown"

# oneDNN's instruction sets in its own order (`cpu_isa_t` and `mayiuse` in its cpu_isa_traits.hpp):
# the value of ONEDNN_MAX_CPU_ISA, our name, and the processor flags, as Linux calls them, that a
# set needs besides those of the sets in `BASE`.
SETS: Mapping[str, tuple[str, frozenset[str]]] = {
    name: (label, frozenset(flags.split()))
    for name, label, flags in (
        ("SSE41", "SSE4.1", "sse4_1"),
        ("AVX", "AVX", "avx"),
        ("AVX2", "AVX2", "avx2"),
        ("AVX2_VNNI", "AVX2 VNNI", "avx_vnni"),
        ("AVX2_VNNI_2", "AVX2 VNNI 2", "avx_vnni_int8 avx_ne_convert"),
        ("AVX512_CORE", "AVX-512", "avx512f avx512bw avx512vl avx512dq"),
        ("AVX512_CORE_VNNI", "AVX-512 VNNI", "avx512_vnni"),
        ("AVX512_CORE_BF16", "AVX-512 BF16", "avx512_bf16"),
        ("AVX512_CORE_FP16", "AVX-512 FP16", "avx512_fp16 avx_vnni"),
        ("AVX512_CORE_AMX", "AVX-512 AMX", "amx_tile amx_int8 amx_bf16"),
        ("AVX512_CORE_AMX_FP16", "AVX-512 AMX FP16", "amx_fp16"),
    )
}
# The set that each one extends; the others extend the one above them.
BASE = {"SSE41": None, "AVX512_CORE": "AVX2"}
# Other spellings that oneDNN knows.
ALIASES = {
    "AVX10_1_512": "AVX512_CORE_FP16",
    "AVX10_1_512_AMX": "AVX512_CORE_AMX",
    "AVX10_1_512_AMX_FP16": "AVX512_CORE_AMX_FP16",
}
# glibc has variants of exp, log, sin ... for processors with these.
FUSED = frozenset({"fma", "avx2"})


def arithmetic() -> dict[str, str]:
    """What decides the last bits of NumPy's and SciPy's results on this machine.

    Keys: `architecture`; `c_library` (exp, log ...) with its variant; `numpy_code`, the instruction
    sets for which NumPy uses separate code; `blas`, the kernels of OpenBLAS.
    """
    return {
        "architecture": platform.machine(),
        "c_library": _c_library(),
        "numpy_code": _numpy_code(),
        "blas": _blas(),
    }


def kernels(backend: str) -> dict[str, str]:
    """What else decides which code the backend chooses on this machine's processor.

    Keys: `instruction_set` (TensorFlow: oneDNN's, at most `ONEDNN_MAX_CPU_ISA`; JAX: with a digest
    of all flags, for which XLA compiles); `processor`, its maker, for JAX with family and model;
    `caches`, size and sharing of each level, by which oneDNN and Eigen choose blocks of matrices.

    Raises:
        UserError: `ONEDNN_MAX_CPU_ISA` is no instruction set that oneDNN knows, or the processor
            is an x86 whose flags are unknown.
    """
    info = _cpuinfo()
    if platform.machine() == "x86_64" and not _flags():
        raise UserError(
            f"{CPUINFO} does not say what this processor can do, on which results depend; make it "
            "readable here."
        )
    maker = info.get("vendor_id") or info.get("CPU implementer") or UNKNOWN
    if backend == "jax":
        model = (info.get(name, "") for name in ("cpu family", "model", "CPU part"))
        maker = " ".join((maker, *filter(None, model)))
        usable = f"{instruction_set(_flags(), None)} {digest_of(sorted(_flags()))[:8]}"
    else:
        usable = instruction_set(_flags(), max_instruction_set())
    return {"instruction_set": usable, "processor": maker, "caches": _caches(CACHES)}


def cpu_description() -> list[str]:
    """The maker, the model and the flags of the processor."""
    info = _cpuinfo()
    names = ("vendor_id", "CPU implementer", "cpu family", "model", "CPU part", "stepping")
    return [*(info.get(name, "") for name in names), *sorted(_flags())]


def max_instruction_set() -> str | None:
    """The value of `ONEDNN_MAX_CPU_ISA`, by which a user limits oneDNN; None if it is not limited.

    Raises:
        UserError: oneDNN would ignore the value, because it does not know it.
    """
    variable = next((name for name in CAPS if os.environ.get(name)), None)
    if variable is None:
        return None
    given = os.environ[variable].upper()
    if given in ("ALL", "DEFAULT"):
        return None
    name = ALIASES.get(given, given)
    if name not in SETS:
        raise UserError(
            f"{variable} is {quoted(os.environ[variable])}: expected one of {', '.join(SETS)} or "
            "ALL; unset it to use all that the processor can do."
        )
    return name


def instruction_set(flags: Set[str], most: str | None) -> str:
    """The instruction set that oneDNN uses on a processor with these flags.

    Args:
        flags: the processor's, as Linux calls them.
        most: the largest set allowed, or None.
    """
    allowed = flags if most is None else _needed(most)
    usable = [name for name in SETS if _needed(name) <= flags and _needed(name) <= allowed]
    if usable:
        return SETS[usable[-1]][0]
    # Not x86: kernels are chosen by flags that have no names here.
    return f"{platform.machine()} {digest_of(sorted(flags))[:8]}"


def _needed(name: str) -> frozenset[str]:
    names = list(SETS)
    base = BASE[name] if name in BASE else names[names.index(name) - 1]
    return SETS[name][1] | (_needed(base) if base else frozenset())


@cache
def _c_library() -> str:
    name, release = platform.libc_ver()
    found = f"{name} {release}" if name else platform.platform(terse=True)
    fused = " with FMA" if _flags() >= FUSED else ""
    # Variables that are read before Python starts can't be fixed any more.
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return found + fused + (f", {tunables}" if "glibc.cpu" in tunables else "")


def _numpy_code() -> str:
    import numpy as np

    found: Any = np.show_config(mode="dicts")
    return " ".join(found["SIMD Extensions"].get("found", ())) or "baseline"


@cache
def _blas() -> str:
    import numpy  # noqa: F401 - loads the library that is asked
    from threadpoolctl import threadpool_info

    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # The copies of SciPy and faiss may be loaded or not. No stage uses SciPy's; all that faiss
    # multiplies is exact.
    names = {
        f"{library['internal_api']} {library.get('architecture') or UNKNOWN}"
        for library in found
        if not any(
            part.startswith(("scipy", "faiss")) for part in Path(library["filepath"]).parts[-3:-1]
        )
    }
    return ", ".join(sorted(names)) or UNKNOWN


def _caches(folder: Path) -> str:
    """Sizes of the caches for data, with the number of processors that share each."""
    found = []
    for entry in sorted(folder.glob("index*")):
        try:
            kind, size, shared = (
                (entry / name).read_text().strip() for name in ("type", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        if kind != "Instruction":
            found.append(f"{size}/{_count(shared)}")
    return " ".join(found) or UNKNOWN


def _count(processors: str) -> int:
    """How many processors a list such as `0-3,8` names."""
    spans = [span.split("-") for span in processors.split(",") if span]
    return sum(int(span[-1]) - int(span[0]) + 1 for span in spans)


def _flags() -> frozenset[str]:
    info = _cpuinfo()
    return frozenset((info.get("flags") or info.get("Features") or "").split())


@cache
def _cpuinfo() -> Mapping[str, str]:
    """The first processor's entry in /proc/cpuinfo; on a Mac its name; else empty."""
    try:
        entry = CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {"vendor_id": _brand()} if sys.platform == "darwin" else {}
    pairs = (line.partition(":") for line in entry.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _brand() -> str:
    """The name of a Mac's processor."""
    asked = ("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
    try:
        return subprocess.check_output(asked, text=True).strip()  # noqa: S603 - a constant
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
