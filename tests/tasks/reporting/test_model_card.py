"""The model card gives the stored model's own scores, its limits, and where it comes from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core.own_code import OWN_CODE, short_digest
from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tasks.reporting.gather import _change, gather_view
from tasks.reporting.model_card import render_model_card
from tasks.reporting.page import render_report
from tests.tasks.reporting.fabricated import PLAN, PROFILE, accuracy_of, fabricated_run


def card(store: Path, **settings: Any) -> str:
    """The card of a made-up run, with ordinary spaces."""
    run = fabricated_run(str(store), Settings.model_validate({"plan": PLAN, **settings}))
    view = gather_view(run.settings, run.outcomes, run.log, PROFILE)
    final = run.outcomes["final"]
    assert isinstance(final, Record)
    return render_model_card(view, final, {"image_shape": [28, 28, 1]}).replace(
        "\N{NO-BREAK SPACE}", " "
    )


def front_matter(text: str) -> Any:
    start, front, _ = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front)


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path) -> None:
    about = front_matter(card(tmp_path))
    assert about["library_name"] == "keras"
    assert about["datasets"] == ["zalando-datasets/fashion_mnist"]
    (model,) = about["model-index"]
    assert model["name"] == "fashion-flow r1"
    (result,) = model["results"]
    assert result["dataset"]["split"] == "test"
    (metric,) = result["metrics"]
    assert metric == {"type": "accuracy", "value": pytest.approx(accuracy_of("final"), abs=5e-5)}


def test_other_data_sets_are_not_passed_off_as_fashion_mnist(tmp_path: Path) -> None:
    text = card(tmp_path, dataset="/somewhere/shoes")
    assert "datasets" not in front_matter(text)
    assert "fashion_mnist" not in text
    assert "/somewhere" not in text, "a card is passed on to others"


def test_synthetic_data_are_announced(tmp_path: Path) -> None:
    assert "SYNTHETIC DATA" in card(tmp_path / "drawn", dataset="synthetic")
    assert "SYNTHETIC DATA" not in card(tmp_path / "real")


def test_scores_settings_and_provenance(tmp_path: Path) -> None:
    text = card(tmp_path)
    low, high = (percent(accuracy_of("final") + step) for step in (-0.02, 0.02))
    assert f"| Accuracy | {percent(accuracy_of('final'))} |\n" in text
    assert f"| 95 % confidence interval | {low[:-2]} to {high} |\n" in text
    assert "| Expected calibration error | 3.12 % |\n" in text
    assert f"| Accuracy of the dense baseline | {percent(accuracy_of('baseline'))} |\n" in text
    assert "| left | 90.00 % | 75.00 % | 85.00 % |" in text
    assert '"epochs": 2' in text
    assert "101,770 parameters; seed 0" in text
    assert "Images of 28 x 28 pixels with 1 channel, each" in text
    assert "Run `r1`, started on 20" in text
    assert "device cpu, threads 1." in text


def test_limits_name_weak_classes_and_missed_criteria(tmp_path: Path) -> None:
    text = card(tmp_path)
    assert 'The criterion "better than the dense baseline" was **not met**.' in text
    assert "Classes with the lowest recall: right (50.00 %), left (75.00 %)." in text
    assert "varies between seeds was not measured" in text


def test_of_several_trainings_the_first_is_the_stored_model(tmp_path: Path) -> None:
    text = card(tmp_path, evaluation={"replicates": 3})
    own, mean = (percent(accuracy_of("final") - loss) for loss in (0.0, 0.01))
    assert "| | this model | mean of 3 trainings, including this one |" in text
    assert f"| Accuracy | {own} | {mean} |" in text
    assert front_matter(text)["model-index"][0]["results"][0]["metrics"][0]["value"] == (
        pytest.approx(accuracy_of("final"), abs=5e-5)
    )
    assert "Per class, all 3 trainings pooled:" in text
    assert "The interval of the mean includes this variation." in text


def test_a_user_s_own_network_is_named_with_its_code(tmp_path: Path) -> None:
    run = fabricated_run(str(tmp_path), Settings.model_validate({"plan": PLAN}))
    final = run.outcomes["final"]
    assert isinstance(final, Record)
    training = {"network": {"family": "function", "function": "own:build"}}
    code = {"": "1" * 64, "blocks": "2" * 64}
    basis = {**final.basis, "settings": {"training": training}, OWN_CODE: code}
    own = run.outcomes["final"] = replace(final, basis=basis)
    view = gather_view(run.settings, run.outcomes, run.log, PROFILE)
    text = render_model_card(view, own, {"image_shape": [28, 28, 1]})
    assert "a function of the user, `build`" in text
    assert short_digest(code) in text
    assert f"final <code>{short_digest(code)}</code>" in render_report(view)
    assert "function of the user" not in card(tmp_path / "other")


def test_a_function_is_shown_without_its_folder() -> None:
    function = "/home/someone/my_nets.py:build"
    assert _change("network.function", function) == "network.function = my_nets.py:build"
    shown = _change("network", {"function": function, "options": {"width": 3}})
    assert "someone" not in shown
    assert "my_nets.py:build" in shown


def test_every_placeholder_is_filled(tmp_path: Path) -> None:
    for name, settings in (("once", {}), ("thrice", {"evaluation": {"replicates": 3}})):
        text = card(tmp_path / name, **settings)
        assert not re.search(r"\{\{|\{%|&(amp|lt|gt|#\d+);|\bNone\b|\bnan\b", text)


def test_a_replayed_plan_is_said_to_be_replayed(tmp_path: Path) -> None:
    said = "Which changes were kept was decided before this run"
    replaying = [entry.model_copy(update={"replay": "forward"}) for entry in PLAN]
    assert f"{said}, in its plan." in card(tmp_path / "replay", rule="replay", plan=replaying)
    assert said not in card(tmp_path / "validation", rule="validation")
