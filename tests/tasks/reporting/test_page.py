"""The report shows what it is given, escapes it, and makes no requests."""

from __future__ import annotations

from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from flows.recipe.presets import NOTEBOOK
from tasks.reporting.notebook_differences import differences
from tasks.reporting.page import render_report
from tasks.reporting.report_view import RESULT_KEYS, ReportView
from tasks.reporting.summary import render_summary

PNG = b"\x89PNG\r\n\x1a\n...not really a picture"
EVIL = '<script>alert("x")</script>'

MINIMAL = ReportView(
    run_id="r1",
    generated="",
    dataset="folder of shoes",
    synthetic=False,
    class_names=("left", "right"),
    split_sizes={},
    results=(),
    verdicts=(),
    overfitting={},
    figures={},
    transfer_skipped=None,
    transfer_weights="imagenet",
    rule="validation",
    scorings=0,
    settings={},
    profile={},
    model_files={},
    notebook_comparison=False,
)

MODELS = (
    "baseline",
    "low_capacity",
    "overfitting",
    "iteration_1",
    "iteration_2",
    "final",
    "vgg16_frozen",
    "vgg16_fine_tuned",
    "vgg16_frozen_corrected",
    "vgg16_fine_tuned_corrected",
)


FIGURES = (
    "samples",
    "balance",
    "augmentation",
    "vgg16_input_as_notebook",
    "vgg16_input_corrected",
    "accuracy",
    "decisions",
    "pairs_picture",
    "reliability_final",
    "confused_final",
    "confusion_final",
    *(f"curves_{model}" for model in MODELS),
)


def row(name: str, accuracy: float) -> dict[str, Any]:
    """A row of results with every field set."""
    return dict.fromkeys(RESULT_KEYS) | {
        "name": name,
        "step": "7",
        "params": 101_770,
        "epochs": 5,
        "batch_size": 128,
        "train_samples": 10_000,
        "train_loss": 0.4,
        "train_accuracy": 0.9,
        "val_loss": 0.6,
        "val_accuracy": accuracy,
        "test_loss": 0.6,
        "test_accuracy": accuracy,
        "notebook_test_loss": 0.5,
        "notebook_test_accuracy": 0.875,
    }


def verdict(number: int, decision: str) -> dict[str, Any]:
    """A gate's row with every field set."""
    return {
        "gate": number,
        "iteration": f"iteration_{number}",
        "change_name": "dropout",
        "hypothesis": "Dropout overfits less.",
        "evidence": "",
        "change": "dropout = 0.25",
        "incumbent": "overfitting",
        "candidate": f"iteration_{number}",
        "decision": decision,
        "reason": "it scores so",
        "rule": "validation",
        "delta_accuracy": -0.0125,
        "delta_loss": 0.02,
    }


EVIDENCE = {
    "rule": "significant",
    "state": "Inconclusive",
    "forced": False,
    "level": 0.05 / 9,
    "ci_low": -0.03,
    "ci_high": 0.005,
    "p_value": 0.9123,
    "p_value_adjusted": 1.0,
    "loss_ci_low": -0.01,
    "loss_ci_high": 0.05,
    "mcnemar_only_incumbent": 60,
    "mcnemar_only_candidate": 35,
    "mcnemar_p_value": 0.00001,
    "gap_incumbent": 0.12,
    "gap_candidate": 0.02,
    "by_validation": "back",
    "by_significant": "inconclusive",
    "by_one_standard_error": "forward",
}


FULL = replace(
    MINIMAL,
    generated="2025-01-01",
    dataset="Fashion-MNIST",
    split_sizes={"train": 8000, "validation": 2000, "test": 2000},
    counts={"train": [4000, 4000], "test": [1000, 1000]},
    results=[row(name, 0.75 + 0.01 * index) for index, name in enumerate(MODELS)],
    verdicts=[verdict(1, "forward"), verdict(2, "back")],
    overfitting={
        "lowest_validation_loss": 0.39,
        "lowest_validation_loss_epoch": 11,
        "highest_validation_accuracy": 0.88,
        "highest_validation_accuracy_epoch": 24,
    },
    figures=dict.fromkeys(FIGURES, PNG),
    scorings=8,
    settings=NOTEBOOK.model_dump(mode="json") | {"subset": {"method": "slices"}},
    transfer_start=0.3125,
    profile={"device": "cpu", "threads": 1},
    model_files={"final": "artifacts/model.keras"},
    notebook_comparison=True,
    guard=[{"splits": ["train", "test"], "exact": 0, "near": 16, "search": "exact"}],
    selection={
        "looks": 9,
        "models": 10,
        "survivor": "iteration_1",
        "metric": "accuracy",
        "val_score": 0.78,
        "optimism": 0.0042,
        "best_corrected": 0.771,
        "best_corrected_low": 0.75,
        "best_corrected_high": 0.79,
        "method": "bootstrap",
    },
    criteria=[
        {
            "criterion": "better than a random classifier",
            "met": True,
            "value": 0.8,
            "low": 0.78,
            "high": 0.82,
            "threshold": 0.1,
            "p_value": 1e-9,
            "alpha": 0.05,
        },
        {
            "criterion": "better than the dense baseline",
            "met": False,
            "value": 0.005,
            "low": -0.01,
            "high": 0.02,
            "threshold": 0.0,
            "p_value": 0.31,
            "alpha": 0.05,
        },
    ],
    per_class=[
        {"class": "left", "precision": 0.9, "recall": 0.8, "f1": 0.85, "support": 1000},
    ],
    calibration_error={"final": {"test": 0.0312}},
    confusion={model: [[7, 3], [0, 5]] for model in MODELS if model != "final"},
)


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        """Parse `html`."""
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember a tag; the ones that need closing are counted."""
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that tags are closed in order."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Remember text outside of styles."""
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every `tag`."""
        return [attributes for name, attributes in self.tags if name == tag]


VIEWS = {
    "minimal": MINIMAL,
    "full": FULL,
    "synthetic": replace(FULL, synthetic=True, notebook_comparison=False),
    "skipped": replace(FULL, transfer_skipped="no weights; fetch them", results=FULL.results[:6]),
    "random": replace(FULL, transfer_weights="random"),
    "unknown scores": replace(
        FULL,
        results=[{"name": name} for name in MODELS],
        verdicts=[{"iteration": "iteration_1"}],
    ),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_self_contained_and_well_formed(view: ReportView) -> None:
    """No script, no request, every tag closed, every link's target there, every image described."""
    html = render_report(view)
    page = Page(html)
    assert page.open == []
    assert "url(" not in html
    assert not any("//" in value for _, found in page.tags for value in found.values() if value)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert all((link["href"] or "")[1:] in targets for link in page.named("a"))
    for image in page.named("img"):
        assert (image["src"] or "").startswith("data:image/png;base64,")
        assert image["alt"]
    assert all("aria-label" in box for box in page.named("div") if box.get("class") == "scroll")
    assert html == render_report(view)


def test_every_figure_is_shown_once() -> None:
    """Every figure appears; the final model's may have either of two names."""
    assert len(Page(render_report(FULL)).named("img")) == len(FIGURES)
    renamed = {name.replace("curves_final", "final"): PNG for name in FIGURES}
    assert len(Page(render_report(replace(FULL, figures=renamed))).named("img")) == len(FIGURES)


def test_everything_that_comes_from_outside_is_escaped() -> None:
    """Names of classes, data sets and changes, reasons and settings cannot become tags."""
    view = replace(
        FULL,
        run_id=EVIL,
        generated=EVIL,
        dataset=EVIL,
        class_names=(EVIL, '" onload="x'),
        results=[*FULL.results, row(EVIL, 0.5)],
        verdicts=[
            verdict(1, "forward")
            | {"hypothesis": EVIL, "evidence": EVIL, "change": EVIL, "reason": EVIL}
        ],
        transfer_skipped=EVIL,
        transfer_weights=EVIL,
        rule=EVIL,
        settings={"x": EVIL},
        profile={EVIL: EVIL},
        model_files={EVIL: EVIL},
    )
    page = Page(render_report(view))
    assert not page.named("script")
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert EVIL in page.text


def test_synthetic_data_are_announced_first() -> None:
    """The banner comes before everything else, and the title has it too."""
    assert "SYNTHETIC" not in Page(render_report(FULL)).text
    page = Page(render_report(VIEWS["synthetic"]))
    title, banner = page.text.split("SYNTHETIC DATA", maxsplit=2)[1:]
    assert title.startswith(": Fashion-MNIST, run r1")
    assert "drawn by the program" in banner


def test_headline_compares_with_the_baseline_and_the_notebook() -> None:
    """The final model's accuracy is at the top, with both differences."""
    text = Page(render_report(FULL)).text.replace("\xa0", " ")
    assert "80.00 % of the 2,000 test images correctly, 5.00 points above the baseline's 75" in text
    assert "−7.50 points; the notebook's final model reaches 87.50 %" in text
    assert "notebook's final model" not in Page(render_report(VIEWS["synthetic"])).text


def test_skipped_transfer_says_why() -> None:
    """The transfer section gives the reason, and no table has a row of VGG16."""
    text = Page(render_report(VIEWS["skipped"])).text
    assert "Skipped. no weights; fetch them" in text
    assert "fine-tuned" not in text
    assert "Skipped." not in Page(render_report(FULL)).text


def with_transfer(*models: str, **settings: Any) -> str:
    """The page's text if these models have results and the transfer has these settings."""
    rows = [row(name, 0.8) for name in ("final", *models)]
    transfer = NOTEBOOK.model_dump(mode="json")["transfer"]
    for name, value in settings.items():
        variant, _, field = name.partition("__")
        transfer[variant][field] = value
    view = replace(FULL, results=rows, settings={"transfer": transfer})
    return Page(render_report(view)).text.replace("\xa0", " ")


FROZEN = ("vgg16_frozen", "vgg16_frozen_corrected")


def test_both_transfer_variants_are_compared_with_the_notebook() -> None:
    """Settings and accuracies side by side, and what the notebook's log reveals."""
    text = with_transfer(*FROZEN)
    assert (
        "Settings of both variants As in the notebook Corrected Pixel values RGB, 0 to 255 BGR"
        in text
    )
    assert "Image size 32 x 32 64 x 64" in text
    assert "Frozen base 82.70 % 83.60 % 80.00 % 80.00 % 80.00 % 80.00 %" in text
    assert "Last block fine-tuned 85.05 % 84.50 % – – – –" in text
    assert "From a clean start, the same settings reach 31.25 % in the first epoch." in text
    assert "The corrected variant gives VGG16 the input it was trained on" in text
    assert "Losses of VGG16 (as in the notebook) are binary cross-entropy" in text


def test_one_transfer_variant_is_shown_without_the_other() -> None:
    """The page does not mention a variant that was not run."""
    ours = with_transfer("vgg16_frozen")
    assert "Settings As in the notebook Pixel values" in ours
    assert "The corrected variant" not in ours
    corrected = with_transfer("vgg16_frozen_corrected")
    assert "As in the notebook" not in corrected
    assert "From a clean start" not in corrected
    assert "are binary cross-entropy" not in corrected
    assert "A new head cannot start there. So the cell" in corrected


def test_claims_about_default_settings_are_left_out_with_other_settings() -> None:
    """Changed settings and random weights explain nothing about the notebook's scores."""
    text = with_transfer(*FROZEN, as_notebook__epochs=3, corrected__side=32)
    assert "Epochs, frozen + fine-tuning 3 + 11 11 + 11" in text
    assert "From a clean start" not in text
    assert "The corrected variant" not in text
    assert "A new head cannot start there" in text
    drawn = Page(render_report(VIEWS["random"])).text
    assert "From a clean start" not in drawn
    assert "The corrected variant" not in drawn
    full = replace(FULL, split_sizes={"train": 50_000, "validation": 10_000, "test": 10_000})
    assert "From a clean start" not in Page(render_report(full)).text


def test_random_weights_are_labelled_everywhere() -> None:
    """In tables (the transfer section's and the results) and in captions."""
    text = Page(render_report(VIEWS["random"])).text
    label = "control: random weights"
    for name in (
        "VGG16, frozen base",
        "VGG16, fine-tuned",
        "VGG16 corrected, frozen base",
        "VGG16 corrected, fine-tuned",
    ):
        assert text.count(name) == text.count(f"{name} {label}") + text.count(f"{name} ({label}")
    assert "control" not in Page(render_report(FULL)).text


def test_verdicts_show_hypothesis_change_and_decision() -> None:
    """Each iteration shows what was tried and how it was decided."""
    text = Page(render_report(FULL)).text
    assert "Iteration 1: dropout rolled forward Hypothesis Dropout overfits less." in text
    assert "Iteration 2: dropout rolled back" in text
    assert "Models have been scored on this test split 8 times" in text


def test_differences_follow_the_run() -> None:
    """Differences that do not apply are left out; others depend on the settings."""
    here = {point.where: point.here for point in differences(FULL)}
    assert here["Step 1, subsets"] == "The same slices, but they are called slices."
    assert "10,000 images (79 steps per epoch)" in here["Step 7, final training"]
    assert "VGG16, start" in here
    assert "BGR" in here["VGG16 corrected, input"]
    assert "0.001, warm-up, then cosine decay to 0" in here["VGG16 corrected, training"]
    replayed = replace(MINIMAL, rule="notebook", settings={"subset": {"method": "stratified"}})
    there = {point.where: point.here for point in differences(replayed)}
    assert "replayed" in there["Step 7, decisions"]
    assert "Seeded" in there["Step 1, subsets"]
    assert not {"VGG16, start", "VGG16, frozen layers", "Step 7, iteration 6"} & set(there)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["model.keras", "final.h5"], "and also an .h5 file for the final one"),
        (["model.keras"], "operations between layers can't be stored in an .h5 file"),
    ],
    ids=["with", "without"],
)
def test_an_h5_file_is_promised_only_if_there_is_one(files: list[str], said: str) -> None:
    stages = [
        {"stage": "baseline", "files": [{"path": "stages/baseline/key/model.keras"}]},
        {"stage": "final", "files": [{"path": f"stages/final/key/{name}"} for name in files]},
    ]
    here = {point.where: point.here for point in differences(replace(FULL, stages=stages))}
    assert said in here["Saved model"]


# Decisions


def text_of(view: ReportView) -> str:
    return Page(render_report(view)).text.replace("\xa0", " ")


def with_evidence(**changed: Any) -> ReportView:
    """The page of a run of five replicates whose first gate has evidence."""
    settings = NOTEBOOK.model_dump(mode="json") | {
        "evaluation": {"protocol": "holdout", "folds": 5, "replicates": 5}
    }
    return replace(
        FULL,
        rule="significant",
        settings=settings,
        verdicts=[verdict(1, "back") | EVIDENCE | changed],
    )


def test_each_gate_shows_its_evidence() -> None:
    text = text_of(with_evidence())
    assert "Iteration 1: dropout inconclusive: rolled back" in text
    assert "Gain in accuracy, points −1.25 95 % interval −3.00 to +0.50" in text
    assert "Change in loss (cross-entropy) +0.0200 95 % interval −0.0100 to +0.0500" in text
    assert "p value, one-sided 0.9123 adjusted 1.0000" in text
    assert "(first trainings) candidate 35, incumbent 60 McNemar's p < 0.0001, two-sided" in text
    assert "Training minus validation accuracy, points candidate +2.00 incumbent +12.00" in text
    assert "validation: back; significant: inconclusive; one standard error: forward" in text
    assert "a one-sided test finds it better at level 0.00556, which is alpha divided by" in text


def test_the_page_says_what_its_tests_account_for() -> None:
    assert "crossed random effects" in text_of(with_evidence())
    assert "Each model is trained 5 times, each time with another seed; its scores" in text_of(
        with_evidence()
    )
    once = replace(with_evidence(), settings=NOTEBOOK.model_dump(mode="json"))
    assert "another seed may reverse the result" in text_of(once)
    folds = {"evaluation": {"protocol": "kfold", "folds": 5, "replicates": 1}}
    assert "corrected resampled t test" in text_of(replace(with_evidence(), settings=folds))
    assert "divided into 5 folds" in text_of(replace(with_evidence(), settings=folds))


def of_replay(rule: str = "notebook", **changed: Any) -> ReportView:
    found = with_evidence(rule=rule, state="RolledForward", decision="forward", **changed)
    return replace(found, rule=rule)


def test_a_replayed_decision_is_shown_beside_the_run_s_own_evidence() -> None:
    text = text_of(of_replay())
    assert "The notebook's decisions are replayed, whatever the scores are." in text
    said = "The run's own evidence would decide 1 of 1 differently: 1 dropout (back)."
    assert f"The notebook's decisions were replayed. {said} Step 7 shows the evidence." in text
    assert f"{said} Rule significant would decide 1 of 1 differently: 1 dropout (back)." in text
    assert (
        "Own evidence By rule validation this run would decide rolled back , by rule significant "
        "inconclusive: rolled back"
    ) in text
    once = text_of(of_replay(by_significant=None))
    assert "By rule validation this run would decide rolled back Reason" in once
    assert "Rule significant would" not in once
    assert "The plan's decisions are replayed" in text_of(of_replay("replay"))


def test_decisions_of_the_run_itself_are_not_compared_with_its_evidence() -> None:
    for view in (with_evidence(), with_evidence(forced=True, rule="notebook")):
        text = text_of(view)
        assert "own evidence would" not in text
        assert "Own evidence" not in text


@pytest.mark.parametrize("rule", ["notebook", "replay"])
def test_the_summary_says_which_replayed_decisions_the_evidence_contradicts(rule: str) -> None:
    text = unescape(render_summary(of_replay(rule), "report.html"))
    whose = "notebook's" if rule == "notebook" else "plan's"
    assert f"- The {whose} decisions were replayed. The run's own evidence would decide 1" in text
    assert "were replayed" not in render_summary(with_evidence(), "report.html")


def test_a_forced_gate_is_announced_at_the_top_and_at_the_gate() -> None:
    text = text_of(with_evidence(forced=True, state="ForcedBack"))
    assert "Forced decisions. Gate 1 was forced back by hand. Everything after that" in text
    assert "Iteration 1: dropout forced back" in text
    assert "Forced decisions" not in text_of(with_evidence())


def test_met_and_missed_criteria() -> None:
    text = text_of(FULL)
    assert "Better than a random classifier met 80.00 % 78.00 to 82.00 % 10.00 % < 0.0001" in text
    assert (
        "Better than the dense baseline not met +0.50 points −1.00 to +2.00 points 0 0.3100" in text
    )


def test_selection_bias_is_shown() -> None:
    text = text_of(FULL)
    assert "Validation images were used for 9 decisions. Choosing the best of 10 models" in text
    assert "overestimates its accuracy by 0.42 points" in text
    replayed = replace(FULL, selection={**FULL.selection, "looks": 0})
    assert "No decision of this run was based on validation images" in text_of(replayed)


def test_duplicates_classes_and_calibration_are_shown() -> None:
    text = text_of(FULL)
    assert "train and test 0 16" in text
    assert "left 90.00 % 80.00 % 85.00 % 1,000" in text
    assert "Overfitting model, held-out images" in text
    assert text.count("left right left 7 3 right 5") == len(MODELS) - 1
    assert "3.12 %" in text


def test_probable_label_errors_are_suspects() -> None:
    row = {"rank": 1, "given": "left", "suggested": "right", "source_position": 7, "origin": None}
    row |= {"self_confidence": 0.0123, "suggested_probability": 0.9}
    named = row | {"rank": 2, "origin": "<b>x</b>.jpg"}
    found = {"model": "iteration_1", "images": 10_000, "estimated_errors": 61.7, "suspects": 48}
    found |= {"first": [row, named], "pairs": [{"given": "left", "true": "right", "images": 8.25}]}
    text = text_of(replace(FULL, label_check=found))
    assert "the model that survived the gates (Iteration 1)" in text
    assert "about 62 labels are wrong, and it suspects 48 images" in text
    assert "Suspects are suspects: look at each before you change a label" in text
    assert "1 left 1.23 % right 90.00 % raw training image 7" in text
    assert "2 left 1.23 % right 90.00 % <b>x</b>.jpg" in text, "escaped"
    assert "left right 8.2" in text
    one = text_of(replace(FULL, label_check=found | {"suspects": 1}))
    assert "it suspects 1 image." in one


def test_without_folds_the_page_says_how_to_look_for_label_errors() -> None:
    text = text_of(FULL)
    assert "Probable label errors Not looked for" in text
    assert "--protocol kfold" in text


def test_the_page_says_how_near_duplicates_were_looked_for() -> None:
    row = {"splits": ["train", "test"], "exact": 2, "near": 16, "search": "index"}
    assert "an index proposed those to compare" not in text_of(FULL)
    assert "an index proposed those to compare" in text_of(replace(FULL, guard=[row]))
    text = text_of(
        replace(
            FULL,
            guard=[row | {"near": None, "search": "off"}],
            settings={**FULL.settings, "guard": {"search": "off"}},
        )
    )
    assert "train and test 2 not searched" in text
    assert "Near-duplicates were not searched ( guard.search=off ), only identical images" in text
    assert "correlate" not in text


def test_the_interval_of_the_final_model_is_at_the_top() -> None:
    rows = [
        {**found, "test_accuracy_low": 0.78, "test_accuracy_high": 0.82, "test_accuracy_sd": 0.01}
        for found in FULL.results
    ]
    once = text_of(replace(FULL, results=rows))
    assert (
        "The 95 % confidence interval is 78.00 to 82.00 %. It covers the choice of test images only"
        in once
    )
    assert "with a single training, the variation between seeds is unknown" in once
    several = text_of(replace(FULL, results=[{**found, "trainings": 5} for found in rows]))
    assert "mean of 5 trainings, whose standard deviation is 1.00 points. The stored" in several


def test_figures_with_numbers_have_a_legend_beside_them() -> None:
    figures = dict.fromkeys(("samples", "accuracy"), PNG)
    numbered = replace(
        FULL, figures=figures, legend=("猫", "<靴>"), font_advice="Install Noto Sans CJK."
    )
    text = render_report(numbered)
    assert "in place of names.</strong> Install Noto Sans CJK." in text
    legend = "class 1 is <bdi>猫</bdi>, class 2 is <bdi>&lt;靴&gt;</bdi>."
    assert text.count(legend) == 1, "only figures with class names need it"
    assert "in place of names" not in render_report(FULL)


# Metrics, rare classes


def by_metric(metric: str, **changes: Any) -> ReportView:
    """A view of a run that judged by a metric, with scores that tell models and metrics apart."""
    view = with_evidence()
    scores = {f"{split}_{metric}": 0.625 for split in ("val", "test")}
    ends = {f"test_{metric}_low": 0.5, f"test_{metric}_high": 0.75}
    rows = [dict(row) | scores | ends for row in view.results]
    rows[0] |= {f"test_{metric}": 0.375}
    commonest = {"name": "commonest_class", "test_accuracy": 0.985, "test_log_loss": 0.0891}
    commonest |= {"test_balanced_accuracy": 0.5, "trainings": 0}
    gains = {"metric": metric, "gain": 0.125, "gain_low": -0.25, "gain_high": 0.5}
    return replace(
        view,
        settings={**view.settings, "metric": metric},
        results=[commonest, *rows],
        verdicts=[dict(row) | gains for row in view.verdicts],
        selection={**view.selection, "val_score": 0.625, "best_corrected": 0.5},
        criteria=[dict(row) | {"metric": metric} for row in view.criteria],
        **changes,
    )


def test_scores_are_those_of_the_metric() -> None:
    text = text_of(by_metric("balanced_accuracy"))
    assert "balanced accuracy, the mean over classes of the share of images that it" in text
    assert "is 62.50 % on the 2,000 test images; the baseline’s is 37.50 %" in text
    assert "The 95 % confidence interval of the balanced accuracy is 50.00 to 75.00 %" in text
    assert "Gain over the baseline +25.00 points; the baseline reaches 37.50 %" in text
    assert "Gain in balanced accuracy, points +12.50 95 % interval −25.00 to +50.00" in text
    assert "Gain in accuracy, points −1.25 95 % interval −3.00 to +0.50" in text
    assert "p value of the balanced accuracy, one-sided" in text
    assert "overestimates its balanced accuracy by 0.42 points: expect 50.00 %" in text


def test_a_lower_log_loss_is_a_gain_and_its_difference_is_negative() -> None:
    text = text_of(by_metric("log_loss"))
    assert "The final model’s log loss is 0.6250 on the 2,000 test images" in text
    assert "Gain over the baseline −0.2500 nats; the baseline reaches 0.3750" in text
    assert "Decrease of log loss, nats +0.1250 95 % interval −0.2500 to +0.5000" in text
    assert "Difference −0.1250 nats" in text
    assert "underestimates its log loss by 0.0042 nats: expect 0.5000" in text
    assert "intervals of log losses cover the true value less often than stated" in text


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "log_loss"])
def test_the_commonest_class_is_the_first_baseline(metric: str) -> None:
    text = text_of(by_metric(metric))
    assert (
        "Always naming the commonest class needs no training. On the test images it reaches an "
        "accuracy of 98.50 %, a balanced accuracy of 50.00 % and, with the frequencies of the "
        "classes as probabilities, a log loss of 0.0891."
    ) in text


def test_rare_classes_and_weights_of_classes_are_shown() -> None:
    assert "Rare classes." not in text_of(FULL)
    counts = {"train": [394, 3], "test": [131, 1]}
    view = replace(
        FULL,
        counts=counts,
        class_weights=(0.504, 66.2),
        settings={**FULL.settings, "class_weight": "balanced"},
    )
    text = text_of(view)
    assert "Rare classes. The test split has 1 image of right: the scores of this class," in text
    assert "those of right by 66.2, those of left by 0.504. Scores count each image once." in text
    assert "right 3 1 66.2" in text
    none = text_of(replace(FULL, counts={"test": [131, 0]}))
    assert "The test split has no images of right" in none
    assert "A class without an image does not count in balanced accuracy." in none
