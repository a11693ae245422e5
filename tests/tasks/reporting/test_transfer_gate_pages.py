"""Report, summary and model card say what the last gate decided, and what the final model is."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tasks.core.records import Record
from tasks.core.settings.run_settings import Settings
from tasks.core.settings.transfer import TransferVariant, corrected_transfer
from tasks.reporting.gather import gather_view
from tasks.reporting.model_card import render_model_card
from tasks.reporting.page import render_report
from tasks.reporting.report_view import ReportView
from tasks.reporting.summary import render_summary
from tests.tasks.reporting.fabricated import PLAN, PROFILE, fabricated_run
from tests.tasks.reporting.test_page import EVIDENCE, FULL, VIEWS, Page, verdict

CANDIDATE = "vgg16_fine_tuned_corrected"


def decided(decision: str, view: ReportView = FULL, **changed: Any) -> ReportView:
    """A run of three gates of which the last is about transfer."""
    last = verdict(3, decision) | EVIDENCE | {"state": None, "rule": view.rule}
    last |= {"iteration": CANDIDATE, "candidate": CANDIDATE, "incumbent": "iteration_1"}
    last |= {"change_name": "transfer learning", "of_transfer": True, "hypothesis": None}
    return replace(view, verdicts=[*view.verdicts, last | changed])


def text_of(view: ReportView) -> str:
    return Page(render_report(view)).text.replace("\xa0", " ")


def test_the_report_shows_the_last_gate_after_the_iterations() -> None:
    text = text_of(decided("forward"))
    gate = text.index("VGG16 corrected, fine-tuned: transfer learning rolled forward")
    assert text.index("Iteration 2: dropout") < gate < text.index("Final training The last gate")
    assert "in place of the winner of step 7?" in text
    assert "It was kept: the final model is VGG16, trained again in the same way" in text
    assert "VGG16's head, then also its last block, are trained again" in text
    assert (
        "VGG16 corrected, fine-tuned, competed with the winner of step 7, Iteration 1, and" in text
    )
    assert "Iteration 1, and was kept." in text
    assert "VGG16 is trained as often" in text


def test_the_report_says_if_transfer_was_dropped() -> None:
    text = text_of(decided("back"))
    assert "VGG16 corrected, fine-tuned: transfer learning rolled back" in text
    assert "It was dropped: the final model is Iteration 1, trained again." in text
    assert "The selected settings are trained again, on the training and validation images" in text
    assert "and was dropped." in text


def test_without_the_gate_the_report_has_no_word_of_it() -> None:
    for view in VIEWS.values():
        assert "last gate" not in text_of(view)
    assert "VGG16 is trained once" in text_of(FULL)


@pytest.mark.parametrize("decision", ["forward", "back"])
def test_the_page_stays_well_formed_and_shows_each_figure_once(decision: str) -> None:
    html = render_report(decided(decision))
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = {attributes["href"] for attributes in page.named("a")}
    assert f"#{CANDIDATE}" in links
    assert {link[1:] for link in links if link and link.startswith("#")} <= set(ids)
    assert len(page.named("img")) == len(Page(render_report(FULL)).named("img"))


def test_a_forced_last_gate_is_named() -> None:
    text = text_of(decided("forward", forced=True, state="ForcedForward"))
    assert "Gate 3 (transfer learning) was forced forward by hand" in text


def test_losses_of_the_final_model_are_binary_if_those_of_its_variant_are() -> None:
    candidate: dict[str, Any] = dict.fromkeys(("candidate", "iteration"), "vgg16_fine_tuned")
    binary = text_of(decided("forward", **candidate))
    assert "Losses of VGG16 (as in the notebook) and of the final model are binary" in binary
    assert "compared with the final model's categorical" not in binary
    for view in (FULL, decided("forward"), decided("back", **candidate)):
        assert "Losses of VGG16 (as in the notebook) are binary cross-entropy" in text_of(view)
        assert "compared with the final model's categorical" in text_of(view)


def test_the_summary_says_what_the_final_model_is() -> None:
    kept = render_summary(decided("forward"), "report.html")
    assert "- The last gate kept transfer: the final model is VGG16, trained again in" in kept
    assert "in place of Iteration 1." in kept
    dropped = render_summary(decided("back"), "report.html")
    assert "- The last gate dropped transfer: the final model is Iteration 1, trained" in dropped
    assert "last gate" not in render_summary(FULL, "report.html")


def test_replayed_decisions_count_the_last_gate() -> None:
    replayed = replace(FULL, rule="notebook", verdicts=[])
    view = decided("back", replayed, state="KeptIncumbent", by_validation="forward", gate=1)
    said = "The run's own evidence would decide 1 of 1 differently: 1 transfer learning (forward)."
    assert said in text_of(replace(view, verdicts=[{**view.verdicts[0], "rule": "notebook"}]))


# What is gathered, and the card


def gathered(store: Path, transfer: dict[str, Any], decision: str = "forward") -> ReportView:
    force = {3: decision} if transfer["weights"] == "required" else {}
    values = {"plan": PLAN, "transfer": transfer, "force": force}
    run = fabricated_run(str(store), Settings.model_validate(values))
    return gather_view(run.settings, run.outcomes, run.log, PROFILE)


def test_the_last_verdict_is_gathered_with_a_name_of_its_own(tmp_path: Path) -> None:
    first, _, last = gathered(tmp_path / "with", {"weights": "required"}).verdicts
    assert (first["of_transfer"], last["of_transfer"]) == (False, True)
    assert (last["change_name"], last["iteration"]) == ("transfer learning", "vgg16_fine_tuned")
    assert len(gathered(tmp_path / "without", {"weights": "imagenet"}).verdicts) == 2


def card(store: Path, variant: TransferVariant, shape: list[int]) -> str:
    run = fabricated_run(
        str(store),
        Settings.model_validate(
            {"plan": PLAN, "transfer": {"weights": "required"}, "force": {3: "forward"}}
        ),
    )
    final = run.outcomes["final"]
    assert isinstance(final, Record)
    basis = {**final.basis, "settings": {"training": variant.model_dump(mode="json")}}
    run.outcomes["final"] = final = replace(final, basis=basis)
    view = gather_view(run.settings, run.outcomes, run.log, PROFILE)
    return unescape(render_model_card(view, final, {"image_shape": shape}))


def code_of(text: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return str(code)


def test_the_card_of_a_vgg16_model_says_so_and_how_to_use_it(tmp_path: Path) -> None:
    text = card(tmp_path / "grey", corrected_transfer(), [28, 28, 1])
    assert ": VGG16, fine-tuned\n" in text
    assert "In the end, transfer from VGG16 (weights from ImageNet) competed with the" in text
    assert "and was kept by hand." in text
    code = code_of(text)
    ast.parse(code)
    assert "/ 255" not in code
    assert "np.repeat(images, 3, axis=-1)" in code
    assert 'resize(x, (64, 64), interpolation="bilinear")' in code
    assert "vgg16.preprocess_input(x)" in code
    assert not re.search(r"\{\{|\{%|\bNone\b|\bnan\b", text)


def test_the_code_in_the_card_is_that_of_the_variant_and_the_images(tmp_path: Path) -> None:
    code = code_of(card(tmp_path, TransferVariant(), [40, 56, 3]))
    ast.parse(code)
    assert "preprocess_input" not in code
    assert "repeat" not in code
    assert '(32, 32), interpolation="bilinear", antialias=True)' in code
