"""The processor's instruction set as oneDNN chooses it, and what decides NumPy's arithmetic."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.engine import processor
from tasks.engine.processor import SETS, arithmetic, instruction_set, kernels, max_instruction_set

ROOT = Path(__file__).resolve().parents[3]
X86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="only on x86")

HASWELL = "sse4_1 avx avx2 fma"
SKYLAKE = f"{HASWELL} avx512f avx512bw avx512vl avx512dq"
SAPPHIRE = f"{SKYLAKE} avx512_vnni avx512_bf16 avx512_fp16 avx_vnni amx_tile amx_int8 amx_bf16"


@pytest.mark.parametrize(
    ("flags", "most", "expected"),
    [
        ("sse4_1", None, "SSE4.1"),
        ("sse4_1 avx", None, "AVX"),
        (HASWELL, None, "AVX2"),
        (f"{HASWELL} avx_vnni", None, "AVX2 VNNI"),
        (SKYLAKE, None, "AVX-512"),
        # A Knights Landing has AVX-512 without the extensions that oneDNN needs.
        (f"{HASWELL} avx512f", None, "AVX2"),
        (f"{SKYLAKE} avx512_vnni", None, "AVX-512 VNNI"),
        (f"{SKYLAKE} avx512_bf16", None, "AVX-512"),
        (SAPPHIRE, None, "AVX-512 AMX"),
        (SAPPHIRE, "AVX512_CORE", "AVX-512"),
        (SAPPHIRE, "AVX2", "AVX2"),
        (SAPPHIRE, "AVX2_VNNI", "AVX2 VNNI"),
        (SAPPHIRE, "SSE41", "SSE4.1"),
        (HASWELL, "AVX512_CORE_AMX", "AVX2"),
    ],
)
def test_the_instruction_set_is_the_largest_that_is_there_and_allowed(
    flags: str, most: str | None, expected: str
) -> None:
    assert instruction_set(set(flags.split()), most) == expected


every_flag = sorted({flag for _, flags in SETS.values() for flag in flags})


@given(st.sets(st.sampled_from(every_flag)), st.sampled_from([None, *SETS]))
def test_a_limit_never_gives_more(flags: set[str], most: str | None) -> None:
    order = [label for label, _ in SETS.values()]

    def rank(label: str) -> int:
        return order.index(label) if label in order else -1

    assert rank(instruction_set(flags, most)) <= rank(instruction_set(flags, None))
    if most is not None:
        assert rank(instruction_set(flags, most)) <= list(SETS).index(most)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("avx2", "AVX2"), ("ALL", None), ("", None), ("AVX10_1_512", "AVX512_CORE_FP16")],
)
def test_the_limit_is_read_as_onednn_reads_it(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: str | None
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", value)
    assert max_instruction_set() == expected
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "SSE41")
    assert max_instruction_set() == (expected if value else "SSE41")


def test_a_limit_that_onednn_would_ignore_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX3")
    with pytest.raises(UserError, match=r"is 'AVX3': expected one of SSE41, AVX, .* or ALL"):
        max_instruction_set()


@X86
def test_the_limit_changes_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    assert kernels("tensorflow")["instruction_set"] == "SSE4.1"


def test_caches_are_sizes_and_sharing(tmp_path: Path) -> None:
    for number, (kind, size, shared) in enumerate(
        [("Data", "32K", "0"), ("Instruction", "32K", "0"), ("Unified", "1M", "0-3,8")]
    ):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, value in (("type", kind), ("size", size), ("shared_cpu_list", shared)):
            (folder / name).write_text(f"{value}\n")
    assert processor._caches(tmp_path) == "32K/1 1M/5"
    assert processor._caches(tmp_path / "none") == "unknown"


def arithmetic_with(**variables: str) -> dict[str, str]:
    code = (
        "import json; from tasks.engine.processor import arithmetic; "
        "print(json.dumps(arithmetic()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


@X86
@pytest.mark.skipif("X86_V3" not in arithmetic()["numpy_code"], reason="no AVX2 here")
@pytest.mark.parametrize(
    ("variable", "value", "changed"),
    [
        ("NPY_DISABLE_CPU_FEATURES", "X86_V3 X86_V4 AVX512_ICL AVX512_SPR", "numpy_code"),
        ("OPENBLAS_CORETYPE", "Nehalem", "blas"),
        ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2", "c_library"),
    ],
)
def test_what_chooses_code_for_numpy_is_in_the_key(variable: str, value: str, changed: str) -> None:
    usual, other = arithmetic(), arithmetic_with(**{variable: value})
    assert {name for name in usual if usual[name] != other[name]} == {changed}


def test_arithmetic_does_not_depend_on_which_libraries_are_loaded() -> None:
    code = (
        "import json, scipy.linalg; from tasks.engine.processor import arithmetic; "
        "print(json.dumps(arithmetic()))"
    )
    found = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT)
    assert json.loads(found) == arithmetic()
