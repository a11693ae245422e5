"""Tracebacks go to the run's log file and not to the terminal."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from flows.running.run_logging import log, logging_run
from tasks.storage.local_path import LocalPath


def test_tracebacks_are_kept_in_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = LocalPath(tmp_path / "run.log")
    with logging_run(path, logging.INFO):
        try:
            raise ValueError("deep inside")
        except ValueError as error:
            log.error("it failed", exc_info=error)
    written = path.log_file().read_text()
    assert "Traceback (most recent call last)" in written
    assert "ValueError: deep inside" in written
    shown = capfd.readouterr().err
    assert "it failed" in shown
    assert "deep inside" not in shown
