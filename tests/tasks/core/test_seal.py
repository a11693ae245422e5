"""What a stage may read follows from what the data derive from, whatever the names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.recipe import stages
from flows.recipe.contents import build, recipe_models, stage_names
from flows.recipe.run import Run
from flows.recipe.transfer import fine_tuned, variants
from tasks.core.errors import SealedError
from tasks.core.names import (
    ARRAYS,
    DUPLICATES,
    FACTS,
    FINAL,
    FOLDS,
    GUARD,
    LOAD,
    PAIRS,
    PREPROCESS,
    RAW,
    RESULTS,
    SPLIT,
    SUBSET,
    SUCCESS,
    TEST,
    TEST_PREDICTIONS,
    TRAIN,
    TRAINING_PAIRS,
    TRAINING_SPLITS,
    VALIDATION,
    VALIDATION_PREDICTIONS,
    evaluation_name,
)
from tasks.core.records import Stage
from tasks.core.seal import (
    NONE,
    Mark,
    MarkedFiles,
    Origin,
    Purpose,
    SealRule,
    check_seal,
)
from tasks.core.settings.run_settings import Settings
from tasks.core.stage_spec import StageSpec
from tasks.core.stage_specs import (
    SPECS,
    EvaluateSpec,
    LoadSpec,
    PreprocessSpec,
    ResultsSpec,
    SubsetSpec,
    TrainSpec,
)
from tests.wiring import Wired, Wiring

IMAGES, SCORES = frozenset({Mark.TEST_IMAGES}), frozenset({Mark.TEST_SCORES})
BOTH = IMAGES | SCORES

# check_seal


def checked(
    rule: SealRule, reads: Mapping[str, tuple[str, ...]], **inputs: MarkedFiles
) -> MarkedFiles:
    return check_seal("a stage", rule, reads, inputs)


@pytest.mark.parametrize(
    ("purpose", "marks", "allowed"),
    [
        (Purpose.DATA, NONE, True),
        (Purpose.DATA, IMAGES, True),
        (Purpose.DATA, SCORES, False),
        (Purpose.DATA, BOTH, False),
        (Purpose.LEARN, NONE, True),
        (Purpose.LEARN, IMAGES, False),
        (Purpose.LEARN, SCORES, False),
        (Purpose.LEARN, BOTH, False),
        (Purpose.REPORT, NONE, True),
        (Purpose.REPORT, IMAGES, True),
        (Purpose.REPORT, SCORES, True),
        (Purpose.REPORT, BOTH, True),
    ],
)
def test_the_purpose_of_a_stage_decides_which_marks_it_may_read(
    purpose: Purpose, marks: frozenset[Mark], allowed: bool
) -> None:
    given = MarkedFiles({"file": marks})
    if allowed:
        checked(SealRule(purpose), {"role": ("file",)}, role=given)
    else:
        with pytest.raises(SealedError, match="role/file"):
            checked(SealRule(purpose), {"role": ("file",)}, role=given)


@pytest.mark.parametrize("purpose", [Purpose.LEARN, Purpose.REPORT])
def test_every_file_of_a_stage_gets_every_mark_that_it_reads(purpose: Purpose) -> None:
    given = MarkedFiles({"a": IMAGES, "b": SCORES, "c": NONE})
    reads = {"role": ("a", "b", "c") if purpose is Purpose.REPORT else ("c",)}
    found = checked(SealRule(purpose), reads, role=given)
    expected = BOTH if purpose is Purpose.REPORT else NONE
    assert {found.of(name) for name in ("any file", FACTS)} == {expected}


def test_only_what_a_stage_reads_counts() -> None:
    given = MarkedFiles({"a": BOTH, "b": NONE}, others=BOTH)
    assert checked(SealRule(Purpose.LEARN), {"role": ("b",)}, role=given).of("file") == NONE
    # An input of which nothing is read: a training that this one may continue.
    assert checked(SealRule(Purpose.LEARN), {"role": ()}, role=given).of("file") == NONE


def test_a_file_without_an_entry_has_the_marks_of_the_others() -> None:
    given = MarkedFiles({"a": NONE}, others=SCORES)
    assert given.of("a") == NONE
    assert given.of("b") == SCORES
    with pytest.raises(SealedError, match="role/b"):
        checked(SealRule(Purpose.LEARN), {"role": ("a", "b")}, role=given)


def test_an_input_that_is_missing_has_no_marks() -> None:
    """It was skipped, or is not known yet: there is nothing to read."""
    assert checked(SealRule(Purpose.LEARN), {"role": ("file",)}).of("file") == NONE


def test_marks_are_added_whatever_is_read() -> None:
    for purpose in (Purpose.DATA, Purpose.REPORT):
        rule = SealRule(purpose, {"listed": Origin()}, adds=SCORES)
        found = checked(rule, {"role": ("file",)}, role=MarkedFiles({"file": IMAGES}))
        assert found.of("any file") == BOTH
    assert checked(SealRule(Purpose.DATA, {"listed": Origin()}, SCORES), {}).of("listed") == SCORES


def test_a_file_of_a_data_stage_derives_from_its_origins_only() -> None:
    rule = SealRule(
        Purpose.DATA,
        {
            "training": Origin(("raw/train",)),
            "test": Origin(("raw/test",)),
            "both": Origin(("raw/train", "raw/test")),
            "fresh": Origin(marks=IMAGES),
        },
    )
    given = MarkedFiles({"train": NONE, "test": IMAGES})
    found = checked(rule, {"raw": ("train", "test")}, raw=given)
    assert {name: found.of(name) for name in ("training", "test", "both", "fresh", "other")} == {
        "training": NONE,
        "test": IMAGES,
        "both": IMAGES,
        "fresh": IMAGES,
        "other": IMAGES,
    }


@pytest.mark.parametrize(
    "reads",
    [{"raw": ("train", "another")}, {"raw": ("train",), "another": ("test",)}],
    ids=["another file", "another role"],
)
def test_every_file_of_a_data_stage_derives_from_what_no_origin_names(
    reads: dict[str, tuple[str, ...]],
) -> None:
    """The origins describe the files that the stage's function reads, under its own roles."""
    rule = SealRule(Purpose.DATA, {"training": Origin(("raw/train",))})
    marked = MarkedFiles({"train": NONE}, others=IMAGES)
    assert checked(rule, reads, raw=marked, another=marked).of("training") == IMAGES


def test_a_refusal_names_stage_files_and_marks_and_says_what_to_do() -> None:
    given = MarkedFiles({"x": IMAGES, "y": SCORES, "z": NONE})
    with pytest.raises(SealedError) as refused:
        check_seal(
            "gate_1",
            SealRule(Purpose.LEARN),
            {"a": ("z", "y"), "b": ("x",)},
            dict.fromkeys("ab", given),
        )
    assert str(refused.value) == (
        "stage 'gate_1' reads a/y, b/x, which derives from test images and test scores. Only "
        "stages that score or report may read it: train, tune and decide on training and "
        "validation data."
    )


def test_a_refusal_names_only_the_marks_that_are_banned() -> None:
    given = MarkedFiles({"x": BOTH})
    with pytest.raises(SealedError, match=r"role/x, which derives from test scores\."):
        checked(SealRule(Purpose.DATA), {"role": ("x",)}, role=given)


# The kinds of stages

# Written out again, so that a kind of another purpose, or a new kind, has to be put here too.
PURPOSES = {
    Purpose.DATA: {
        "load",
        "subset",
        "guard",
        "preprocess",
        "folds",
        "label_check",
        "backbone_check",
    },
    Purpose.LEARN: {
        "train",
        "retrain",
        "decide",
        "selection",
        "vgg16_weights",
        "vgg16_features",
        "vgg16_train",
        "backbone",
        "backbone_features",
        "backbone_train",
        "vgg16_retrain",
    },
    Purpose.REPORT: {
        "explore",
        "look",
        "curves",
        "evaluate",
        "results",
        "success",
        "quality",
        "figures",
    },
}
# The test images of raw data, and the kind that scores models on them.
TEST_IMAGES = {("load", "test"), ("load", "test_labels")}
# Only people read what says where images come from.
FOR_PEOPLE = {("load", "origins"), ("load", "reading")}
SCORES_ON_TEST = "evaluate"


def test_each_kind_has_the_purpose_that_it_should_have() -> None:
    found: dict[Purpose, set[str]] = {}
    for spec in SPECS:
        found.setdefault(spec.seal.purpose, set()).add(spec.kind)
    assert found == PURPOSES


def test_only_the_scoring_on_test_images_adds_marks() -> None:
    assert {spec.kind: spec.seal.adds for spec in SPECS if spec.seal.adds} == {
        SCORES_ON_TEST: frozenset(Mark)
    }
    marked = {
        (spec.kind, file): origin.marks
        for spec in SPECS
        for file, origin in spec.seal.origins.items()
        if origin.marks
    }
    assert marked == dict.fromkeys(TEST_IMAGES | FOR_PEOPLE, IMAGES)


def test_only_data_stages_declare_origins() -> None:
    assert {s.kind for s in SPECS if s.seal.origins} == PURPOSES[Purpose.DATA]


# Graphs of stages


# A file of a stage that was made.
Node = tuple[int, str]


def sources(made: Wired, file: str) -> list[tuple[Wired, str]]:
    """The files from which a file of a stage was made."""
    rule = made.definition.spec.seal
    read = [
        (f"{role}/{name}", made.inputs[role], name)
        for role, names in made.definition.reads.items()
        if role in made.inputs
        for name in names
    ]
    if made.definition.kind in PURPOSES[Purpose.DATA] and file in rule.origins:
        declared = {name for origin in rule.origins.values() for name in origin.reads}
        own = rule.origins[file].reads
        read = [item for item in read if item[0] in own or item[0] not in declared]
    return [(source, name) for _, source, name in read]


def ancestors(made: Wired) -> set[tuple[str, str]]:
    """Kind and name of every file that the files read by a stage descend from, and of these."""
    seen: set[Node] = set()
    found: set[tuple[str, str]] = set()
    pending = [
        (given, name)
        for role, given in made.inputs.items()
        for name in made.definition.reads.get(role, ())
    ]
    while pending:
        source, name = pending.pop()
        if (id(source), name) not in seen:
            seen.add((id(source), name))
            found.add((source.definition.kind, name))
            pending += sources(source, name)
    return found


def violates(made: Wired) -> bool:
    """Whether a stage reads what descends from test images or scores and must not."""
    found = ancestors(made)
    scored = any(kind == SCORES_ON_TEST for kind, _ in found)
    if made.definition.kind in PURPOSES[Purpose.LEARN]:
        return scored or bool(found & TEST_IMAGES)
    return scored and made.definition.kind in PURPOSES[Purpose.DATA]


def blank(kind: type[StageSpec]) -> StageSpec:
    """A spec without values, which do not matter here."""
    return kind.model_construct()


def refused(run: Run[Wired], stage: Stage, **inputs: Any) -> str:
    """The message with which the seal refuses a stage."""
    with pytest.raises(SealedError) as error:
        run(stage, **inputs)
    return str(error.value)


# What some kinds store, and what the functions of data stages call their inputs.
STORED = {
    LOAD: (TRAIN, TEST, "train_labels", "test_labels"),
    SUBSET: (TRAIN, VALIDATION, TEST, "index"),
    GUARD: (PAIRS, TRAINING_PAIRS),
    PREPROCESS: (TRAIN, VALIDATION, TEST),
    "folds": (FOLDS,),
    "train": ("model", "history", VALIDATION_PREDICTIONS),
    "retrain": ("model", "history"),
    "decide": ("verdict",),
    "evaluate": (TEST_PREDICTIONS,),
    "results": (RESULTS, "verdicts", "replicates"),
}
ROLES = {SUBSET: (RAW,), GUARD: (SPLIT,), PREPROCESS: (SPLIT,), "folds": (SPLIT, DUPLICATES)}
# The kinds that are usually given for these roles, and for any other.
GIVEN = {RAW: (LOAD,), SPLIT: (SUBSET,), DUPLICATES: (GUARD,)}
MARKED = (LOAD, SUBSET, GUARD, PREPROCESS, "folds", "evaluate", "results")

NAMES = [*"abcdefgh", "test", "test_images", "train", "results", "gate_1", "final", "validation"]
WORDS = st.sampled_from([*"xyz", "test", "arrays", "model", "raw", "split", "guard", "results"])
KINDS = st.one_of(
    st.sampled_from(SPECS),
    # More of those that marks start at and pass through than of the many that read anything.
    st.sampled_from([spec for spec in SPECS if spec.kind in MARKED]),
)


@dataclass(frozen=True)
class Wanted:
    """A stage of a graph: what it reads of which earlier stages, by role."""

    name: str
    kind: type[StageSpec]
    reads: Mapping[str, tuple[int, tuple[str, ...]]]


@st.composite
def graphs(draw: st.DrawFn) -> list[Wanted]:
    """Stages of all kinds that read any files of any earlier ones, under any names."""
    names = draw(st.permutations(NAMES))
    # So that there is something to read, as there is in a recipe.
    everything = (TRAIN, VALIDATION, TEST, FACTS)
    found = [
        Wanted(names[0], LoadSpec, {}),
        Wanted(names[1], SubsetSpec, {RAW: (0, everything)}),
        Wanted(names[2], PreprocessSpec, {SPLIT: (1, everything)}),
        Wanted(names[3], EvaluateSpec, {ARRAYS: (2, (TEST,))}),
        Wanted(names[4], ResultsSpec, {"scored": (3, (TEST_PREDICTIONS,))}),
    ]
    for name in names[5:]:
        kind = draw(KINDS)
        roles = list(ROLES.get(kind.kind, ()))
        if not roles or draw(st.integers(0, 3)) == 0:
            roles = [*roles, *draw(st.lists(WORDS, min_size=1, max_size=2, unique=True))]
        reads = {role: draw(read_files(found, role)) for role in roles}
        found.append(Wanted(name, kind, reads))
    return found


@st.composite
def read_files(draw: st.DrawFn, found: list[Wanted], role: str) -> tuple[int, tuple[str, ...]]:
    """Some files of a stage: usually of one of a kind that fits the role."""
    fitting = [n for n, made in enumerate(found) if made.kind.kind in GIVEN.get(role, MARKED)]
    usual = bool(fitting) and draw(st.integers(0, 3)) > 0
    source = draw(st.sampled_from(fitting if usual else range(len(found))))
    stored = (*STORED.get(found[source].kind.kind, ()), FACTS)
    files = st.sampled_from([*stored, *stored, "x", "test"])
    return source, tuple(draw(st.lists(files, min_size=1, max_size=3, unique=True)))


def wired(graph: Sequence[Wanted]) -> tuple[list[Wired], list[Wired]]:
    """The stages of a graph that the seal lets pass, and those that it refuses."""
    run = Wiring()
    made: dict[int, Wired] = {}
    rejected: list[Wired] = []
    for number, wanted in enumerate(graph):
        # A stage that was refused is not there for others to read.
        given: dict[str, Any] = {
            role: made[at] for role, (at, _) in wanted.reads.items() if at in made
        }
        files = {role: names for role, (_, names) in wanted.reads.items()}
        stage = Stage(wanted.name, blank(wanted.kind), files)
        try:
            made[number] = run(stage, **given)
        except SealedError:
            rejected.append(Wired(stage, given))
    return list(made.values()), rejected


def sorts(passed: list[Wired], rejected: list[Wired]) -> Iterator[str]:
    """What happens in a graph that the property would mean little without."""
    for made in rejected:
        found = ancestors(made)
        purpose = made.definition.spec.seal.purpose
        yield f"a {purpose} stage is refused"
        if purpose is Purpose.LEARN:
            scored = any(kind == SCORES_ON_TEST for kind, _ in found)
            yield "scores are refused" if scored else "images are refused"
            given = [ancestors(source) for source in made.inputs.values()]
            if any((SCORES_ON_TEST, TEST_PREDICTIONS) in before for before in given):
                yield "scores are refused although another stage passed them on"
    for made in passed:
        found = ancestors(made)
        if made.definition.kind in PURPOSES[Purpose.LEARN]:
            beside = any(ancestors(given) & TEST_IMAGES for given in made.inputs.values())
            if beside and (LOAD, TRAIN) in found:
                yield "a stage learns from what was made beside test images"
        if made.definition.kind in PURPOSES[Purpose.DATA] and found & TEST_IMAGES:
            yield "a data stage reads test images"


SORTS = {
    "a data stage is refused",
    "a learn stage is refused",
    "images are refused",
    "scores are refused",
    "a stage learns from what was made beside test images",
    "a data stage reads test images",
    "scores are refused although another stage passed them on",
}


def test_no_graph_of_stages_breaks_the_seal() -> None:
    """What is refused would have broken it, so the seal is not stricter than it has to be."""
    seen: Counter[str] = Counter()

    @settings(max_examples=300)
    @given(graphs())
    def keeps_the_seal(graph: list[Wanted]) -> None:
        passed, rejected = wired(graph)
        seen.update(sorts(passed, rejected))
        assert [made.stage for made in passed if violates(made)] == []
        assert [made.stage for made in rejected if not violates(made)] == []

    keeps_the_seal()
    assert set(seen) == SORTS, "the graphs that were drawn are of all sorts"


def test_two_stages_of_one_name_are_refused() -> None:
    """The marks of one would be taken for those of the other."""
    run = Wiring()
    scored = run(Stage("same", blank(EvaluateSpec)))
    message = refused(run, Stage("same", blank(LoadSpec)))
    assert message == (
        "two stages are named 'same', but their files derive from different test data; rename one "
        "of them."
    )
    learner = Stage("baseline", blank(TrainSpec), {"arrays": (TEST_PREDICTIONS,)})
    assert "reads arrays/test_predictions" in refused(run, learner, arrays=scored)


# The recipe

PLAIN = {"dataset": "synthetic", "transfer": {"weights": "off"}}
RECIPES: dict[str, dict[str, Any]] = {
    "the notebook": {},
    "holdout, transfer off": PLAIN,
    "holdout, five replicates": PLAIN | {"evaluation": {"replicates": 5}},
    "kfold": PLAIN | {"evaluation": {"protocol": "kfold", "folds": 3}},
    "kfold, two replicates, transfer": {
        "evaluation": {"protocol": "kfold", "folds": 3, "replicates": 2},
        "transfer": {"weights": "random"},
    },
    "one variant of transfer": {"transfer": {"weights": "random", "variant": "corrected"}},
    "a plan of no iterations": PLAIN | {"plan": []},
    "transfer competes": {"transfer": {"weights": "required"}},
    "transfer competes, kfold, two replicates, no iterations": {
        "evaluation": {"protocol": "kfold", "folds": 3, "replicates": 2},
        "transfer": {"weights": "required"},
        "plan": [],
    },
    "forced gates": {"force": {1: "back", 2: "forward"}},
}


def recipe(name: str) -> tuple[Wiring, dict[str, Wired], Settings]:
    chosen = Settings.model_validate(RECIPES[name])
    run = Wiring()
    return run, build(run, chosen), chosen


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_can_be_built_and_keeps_the_seal(name: str) -> None:
    run, made, chosen = recipe(name)
    assert [item.stage for item in run.taken if violates(item)] == []
    assert set(made) == set(stage_names(chosen))
    assert sorted(made) == sorted(item.stage for item in run.taken), "each stage is made once"
    # Test images and scores do reach the stages that report.
    assert ancestors(made[RESULTS]) >= TEST_IMAGES - {("load", "test_labels")}
    assert (SCORES_ON_TEST, TEST_PREDICTIONS) in ancestors(made[RESULTS])


def replaced(stage: Stage, **reads: tuple[str, ...]) -> Stage:
    """A stage that reads other files."""
    return Stage(f"{stage.name}_wrong", stage.spec, {**stage.reads, **reads})


DERIVES_FROM_IMAGES = "which derives from test images. Only stages that score or report may read it"
DERIVES_FROM_BOTH = "which derives from test images and test scores. Only stages that"


def test_a_training_must_not_read_test_images() -> None:
    run, made, _ = recipe("holdout, transfer off")
    wrong = replaced(made["baseline"].definition, arrays=(*TRAINING_SPLITS, FACTS, TEST))
    message = refused(run, wrong, arrays=made[PREPROCESS])
    assert f"stage 'baseline_wrong' reads arrays/test, {DERIVES_FROM_IMAGES}" in message
    # Neither those of other stages, nor under other names.
    for source in (LOAD, SUBSET):
        other = Stage("other", wrong.spec, {"train": (TEST,)})
        assert "reads train/test, " in refused(run, other, train=made[source])


def test_a_gate_must_not_read_results() -> None:
    run, made, _ = recipe("holdout, transfer off")
    gate = replaced(made["gate_1"].definition, incumbent=(RESULTS,))
    message = refused(run, gate, incumbent=made[RESULTS], candidate=made["iteration_1"])
    assert f"stage 'gate_1_wrong' reads incumbent/results, {DERIVES_FROM_BOTH}" in message


def test_the_choice_of_a_model_must_not_read_success() -> None:
    run, made, _ = recipe("holdout, transfer off")
    wrong = replaced(made["selection"].definition, success=(FACTS,))
    given = {role: made[role] for role in made["selection"].definition.reads}
    message = refused(run, wrong, success=made[SUCCESS], **given)
    assert f"reads success/facts, {DERIVES_FROM_BOTH}" in message


def test_test_predictions_are_refused_under_any_role() -> None:
    run, made, _ = recipe("holdout, transfer off")
    wrong = replaced(made[FINAL].definition, arrays=(TEST_PREDICTIONS,))
    message = refused(run, wrong, arrays=made[evaluation_name("baseline")])
    assert f"stage 'final_wrong' reads arrays/test_predictions, {DERIVES_FROM_BOTH}" in message


def test_a_training_must_not_have_folds_that_depend_on_test_images() -> None:
    """Although the stage that makes them is a data stage, which may read test images."""
    run, made, _ = recipe("kfold")
    wrong = replaced(made["folds"].definition, guard=(PAIRS,))
    folds = run(wrong, split=made[SUBSET], guard=made[GUARD])
    training = replaced(made["baseline_f1"].definition)
    message = refused(run, training, arrays=made[PREPROCESS], folds=folds)
    assert f"reads folds/folds, {DERIVES_FROM_IMAGES}" in message


def test_a_data_stage_must_not_read_test_scores() -> None:
    run, made, _ = recipe("kfold")
    wrong = replaced(made["folds"].definition, guard=("per_class",))
    message = refused(run, wrong, split=made[SUBSET], guard=made["quality"])
    assert "reads guard/per_class, which derives from test scores. Only" in message


def test_results_are_refused_under_any_name() -> None:
    run, made, chosen = recipe("holdout, transfer off")
    stage = stages.results(recipe_models(chosen), chosen)
    renamed = Stage("validation", blank(ResultsSpec), stage.reads)
    given: dict[str, Any] = {role: made[role] for role in stage.reads}
    table = run(renamed, **given)
    gate = Stage("gate", made["gate_1"].definition.spec, {"incumbent": ("validation_predictions",)})
    message = refused(run, gate, incumbent=table)
    assert f"reads incumbent/validation_predictions, {DERIVES_FROM_BOTH}" in message


def test_fine_tuning_must_not_start_from_what_was_chosen_by_test_scores() -> None:
    run, made, chosen = recipe("one variant of transfer")
    ((suffix, variant),) = variants(chosen).items()
    tuning = replaced(fine_tuned(chosen, suffix, variant), start=("quality",))
    features = made["vgg16_block4_corrected"]
    message = refused(run, tuning, features=features, start=made["quality"])
    assert f"reads start/quality, {DERIVES_FROM_BOTH}" in message


def test_a_stage_that_was_refused_can_be_made_without_what_it_must_not_read() -> None:
    run, made, _ = recipe("holdout, transfer off")
    training = made["baseline"].definition
    refused(run, replaced(training, arrays=(TEST,)), arrays=made[PREPROCESS])
    right = Stage("baseline_wrong", training.spec, {ARRAYS: TRAINING_SPLITS})
    assert not violates(run(right, arrays=made[PREPROCESS]))
