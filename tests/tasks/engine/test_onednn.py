"""Our reading of the processor is compared with oneDNN's own."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import StageError
from tasks.engine import onednn
from tasks.engine.onednn import NAMES, ask_onednn, check_instruction_set
from tasks.engine.processor import kernels


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("FASHION_FLOW_CACHE", str(tmp_path / "cache"))
    check_instruction_set.cache_clear()
    yield tmp_path / "cache"
    check_instruction_set.cache_clear()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's names are those of x86")
@pytest.mark.parametrize("limit", ["ALL", "SSE41"])
def test_onednn_gives_the_answer_that_the_key_has(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    found = ask_onednn()
    assert found
    assert NAMES[found] == kernels("tensorflow")["instruction_set"]


def test_another_answer_is_refused_and_asked_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer() -> str:
        asked.append(1)
        return "Intel AVX2"

    monkeypatch.setattr(onednn, "ask_onednn", answer)
    check_instruction_set("AVX2", "2.21")
    check_instruction_set.cache_clear()
    with pytest.raises(StageError, match="taken for one with AVX-512, but oneDNN uses AVX2"):
        check_instruction_set("AVX-512", "2.21")
    # A kept answer that does not fit is asked for again, once.
    assert asked == [1, 1]
    # Another TensorFlow contains another oneDNN; another limit gives another answer.
    check_instruction_set("AVX2", "2.22")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    check_instruction_set.cache_clear()
    check_instruction_set("AVX2", "2.21")
    assert asked == [1, 1, 1, 1]


def test_a_cache_that_is_damaged_or_not_writable_is_no_matter(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    monkeypatch.setattr(onednn, "ask_onednn", lambda: "Intel AVX2")
    check_instruction_set("AVX2", "2.21")
    (kept,) = empty_cache.glob("onednn-*.json")
    kept.write_text("[")
    check_instruction_set.cache_clear()
    check_instruction_set("AVX2", "2.21")
    monkeypatch.setenv("FASHION_FLOW_CACHE", "/proc/none")
    check_instruction_set.cache_clear()
    check_instruction_set("AVX2", "2.21")


def test_without_an_answer_a_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onednn, "ask_onednn", lambda: None)
    with caplog.at_level(logging.WARNING, "fashion_flow"):
        check_instruction_set("AVX2", "2.21")
    assert "does not say which instruction set it uses" in caplog.text
