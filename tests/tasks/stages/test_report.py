"""The last stage of a run writes its report, its summary and the folder of its final model."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import StageError
from tasks.core.settings.run_settings import Settings
from tasks.engine.stage import RunContext
from tasks.stages.report import report
from tests.support import on_disk
from tests.tasks.reporting.fabricated import PLAN, PROFILE, FabricatedRun, fabricated_run


@pytest.fixture
def summaries(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What the stage publishes, without a Prefect server: texts and their descriptions."""
    published: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "tasks.stages.report.publish_summary", lambda *summary: published.append(summary)
    )
    return published


def settings(**changed: Any) -> Settings:
    return Settings.model_validate({"plan": PLAN, **changed})


def reported(run: FabricatedRun) -> Path:
    """Run the stage without Prefect; return the report's path."""
    log = run.log
    context = RunContext(str(log.store.root), log.run_id, PROFILE, workers=1)
    return Path(report.fn(run.settings, run.outcomes, context))


def text_of(page: Path) -> str:
    """The page's text without tags, with single spaces."""
    body = page.read_text().partition("<body>")[2]
    return " ".join(re.sub(r"<[^>]*>", " ", body).replace("\N{NO-BREAK SPACE}", " ").split())


pytestmark = pytest.mark.usefixtures("summaries")


def test_page_summary_and_model_folder_are_written(
    tmp_path: Path, summaries: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fashion_flow")
    run = fabricated_run(str(tmp_path))
    path = reported(run)
    assert path == on_disk(run.log.report)
    assert "Image classification: Fashion-MNIST" in text_of(path)
    ((summary, description),) = summaries
    assert description == "Results on Fashion-MNIST"
    assert f"Full report: `{path}`" in summary
    folder = on_disk(run.log.model_folder)
    assert {found.name: found.read_bytes()[:7] for found in folder.iterdir()} == {
        "model.keras": b"a model",
        "fashion_mnist_final.h5": b"the sam",
        "usage.json": b"{}",
        "README.md": b"---\nlib",
    }
    assert any(f"Completed      {path}" in record.getMessage() for record in caplog.records)


def test_each_run_has_a_report_of_its_own(tmp_path: Path) -> None:
    one, other = (reported(fabricated_run(str(tmp_path), run_id=name)) for name in ("r1", "r2"))
    assert one != other
    assert "Run r1 ;" in text_of(one)
    assert "Run r2 ;" in text_of(other)


def test_writing_the_report_again_changes_nothing_but_its_date(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path))
    date = re.compile(r"written on\n\S+ \S+ UTC")
    first = date.sub("", reported(run).read_text())
    assert date.sub("", reported(run).read_text()) == first


def test_skipped_transfer_is_shown_with_its_reason(
    tmp_path: Path, summaries: list[tuple[str, str]]
) -> None:
    run = fabricated_run(str(tmp_path), without_transfer="no weights <here>")
    page = reported(run)
    assert "Skipped. no weights &lt;here&gt;" in text_of(page)
    assert "Loss and accuracy by epoch of VGG16" not in page.read_text()
    assert "VGG16 was skipped: no weights" in summaries[0][0]


def test_a_run_without_a_plan(tmp_path: Path) -> None:
    text = text_of(reported(fabricated_run(str(tmp_path), settings(plan=()))))
    assert "The plan had no iterations." in text
    assert "Selection bias" not in text
    assert "rolled forward" not in text


def test_replicates_are_means_with_their_spread(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path), settings(evaluation={"replicates": 3}))
    text = text_of(reported(run))
    assert "Each model is trained 3 times" in text
    assert "mean of 3 trainings, whose standard deviation is 1.00 points" in text
    assert "final_r2" in text
    assert "single training" not in text


def test_folds_are_described(tmp_path: Path) -> None:
    evaluation = {"protocol": "kfold", "folds": 2, "replicates": 2}
    text = text_of(reported(fabricated_run(str(tmp_path), settings(evaluation=evaluation))))
    assert "divided into 2 folds" in text
    assert "trained 4 times, once per fold in each of 2 random divisions" in text
    assert "overfitting_f2_r2" in text


def test_a_damaged_table_stops_the_stage(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path))
    (tmp_path / "stages/results/key/results.parquet").write_bytes(b"damaged")
    with pytest.raises(StageError, match=r"results\.parquet"):
        reported(run)
    assert not on_disk(run.log.report).exists()
