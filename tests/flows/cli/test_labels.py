"""`labels` shows suspects, says what they are, and how to get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli.app import main
from flows.recipe.compose import compose
from tasks.core.records import Stage, digest_of
from tasks.core.tables.arrow import from_rows
from tasks.core.tables.images import SUSPECTS
from tasks.storage.run_log import DONE, RunLog, now
from tasks.storage.store import Store
from tests.support import basis, spec_of


def suspect(rank: int, **changes: Any) -> dict[str, Any]:
    row = {"rank": rank, "split": "train", "position": 10 + rank, "source_position": rank}
    row |= {"origin": None, "given": "shirt", "suggested": "coat"}
    return row | {"self_confidence": 0.0125, "suggested_probability": 0.96875} | changes


def begun(folder: Path, *assignments: str) -> RunLog:
    run = RunLog(Store(str(folder)), "run-1")
    settings = compose("smoke", None, {}, ("transfer.weights=off", *assignments))
    run.begin(settings.model_dump(mode="json"), {"device": "cpu"}, None)
    return run


def checked(folder: Path, rows: list[dict[str, Any]]) -> None:
    run = begun(folder, "evaluation.protocol=kfold")
    stage = Stage("label_check", spec_of("label_check"))
    outputs = run.store.writer(stage, digest_of("label_check"), basis())
    outputs.table("label_errors", from_rows(SUSPECTS, rows))
    facts = {"model": "overfitting", "images": 10_000, "suspects": len(rows)}
    facts["estimated_errors"] = 41.6
    run.stage(run.store.commit(outputs, facts), "completed", now(), 1.0)
    run.end(DONE)


def test_the_first_suspects_and_the_table_with_all_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [suspect(1, origin="photos/coat 7.jpg"), *(suspect(rank) for rank in range(2, 31))]
    checked(tmp_path, rows)
    assert main(["labels", "--store", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "30 suspects among 10,000 images; estimated errors: 42" in shown
    words = [line.split() for line in shown.splitlines()]
    assert ["1", "shirt", "1.25", "coat", "96.88", "photos/coat", "7.jpg"] in words
    assert ["20", "shirt", "1.25", "coat", "96.88", *["raw", "training", "image", "20"]] in words
    assert not [line for line in words if line[:1] == ["21"]]
    assert "before you change its label" in shown
    assert Path(shown.splitlines()[-1].removeprefix("all 30: ")).is_file()


def test_json_has_all_suspects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [suspect(rank) for rank in range(1, 31)]
    checked(tmp_path, rows)
    assert main(["labels", "--store", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows


def test_a_run_without_suspects_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked(tmp_path, [])
    assert main(["labels", "--store", str(tmp_path)]) == 0
    assert "0 suspects among 10,000 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("assignments", "advice"),
    [
        ((), "run it again with --protocol kfold"),
        (("evaluation.protocol=kfold",), "start the same command again to continue it"),
    ],
)
def test_a_run_without_a_check_says_what_to_do(
    assignments: tuple[str, ...], advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tmp_path, *assignments)
    assert main(["labels", "--store", str(tmp_path)]) == 2
    assert advice in capsys.readouterr().err.replace("\n", " ")
