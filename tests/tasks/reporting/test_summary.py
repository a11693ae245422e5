"""The summary for the Prefect UI gives the final score first and hides nothing that matters."""

from __future__ import annotations

from dataclasses import replace

from tasks.reporting.report_view import ReportView
from tasks.reporting.summary import render_summary
from tests.tasks.reporting.test_page import FULL, VIEWS, with_evidence


def summary(view: ReportView) -> str:
    return render_summary(view, "runs/r1/report.html").replace("\N{NO-BREAK SPACE}", " ")


def test_the_final_score_comes_first() -> None:
    text = summary(FULL)
    assert text.startswith("# Test accuracy of the final model: 80.00 %\n")
    assert "The dense baseline reaches 75.00 %, the notebook's final model 87.50 %." in text
    assert text.endswith("Full report: `runs/r1/report.html`\n")


def test_every_model_has_a_row() -> None:
    lines = summary(FULL).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 2 + len(FULL.results)
    assert {line.count("|") for line in rows} == {8}


def test_criteria_and_forced_gates_are_listed() -> None:
    text = summary(with_evidence(forced=True))
    assert '- Criterion "better than a random classifier": met (p &lt; 0.0001).' in text
    assert '- Criterion "better than the dense baseline": **NOT met** (p = 0.3100).' in text
    assert "- **Gate 1 was forced back by hand.**" in text


def test_synthetic_data_skipped_transfer_and_controls_are_announced() -> None:
    assert summary(VIEWS["synthetic"]).startswith("> **SYNTHETIC DATA.**")
    assert "VGG16 was skipped: no weights; fetch them" in summary(VIEWS["skipped"])
    assert "VGG16 has random weights in this run" in summary(VIEWS["random"])
    assert "VGG16" not in summary(replace(FULL, results=FULL.results[:6]))


def test_figures_are_embedded() -> None:
    text = summary(FULL)
    assert text.count("](data:image/png;base64,") == 2
    assert "](data:" not in summary(replace(FULL, figures={}))
