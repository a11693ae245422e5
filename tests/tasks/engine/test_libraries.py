"""A key has the versions of what a stage's code uses, and of nothing else."""

from __future__ import annotations

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from tasks.core.errors import UserError
from tasks.core.stage_specs import SPECS
from tasks.engine import libraries
from tasks.engine.fingerprint import libraries_of
from tasks.engine.libraries import installation, library_version, library_versions
from tests.conftest import ROOT

KINDS = [spec.kind for spec in SPECS]


def of(kind: str, backend: str | None = None) -> set[str]:
    return set(library_versions(f"tasks.stages.{kind}", backend))


def test_every_stage_has_those_that_write_its_files() -> None:
    for kind in KINDS:
        assert of(kind) >= {"python", "numpy", "pyarrow"}


def test_figures_depend_on_all_that_draws_them() -> None:
    for kind in ("explore", "guard", "look", "curves", "quality", "figures"):
        assert of(kind) >= {"matplotlib", "pillow", "kiwisolver", "contourpy"}


def test_the_page_on_reliability_lists_all_of_them() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith("| versions of Python"))
    listed = set(re.findall(r"\w+", row.split("|")[1].lower())) | {"pil"}
    every = {name for kind in KINDS for name in of(kind, "tensorflow") | of(kind, "jax")}
    assert {name.lower() for name in every} - listed == set()


def test_a_stage_that_does_not_use_a_library_is_not_recomputed_for_it() -> None:
    # SciPy finds what belongs together.
    assert of("subset") == {"python", "numpy", "pyarrow", "scipy"}
    assert not of("decide") & {"matplotlib", "keras", "tensorflow"}
    assert not of("load") & {"httpx", "botocore", "prefect"}


def test_trainings_depend_on_keras_its_files_and_its_backend() -> None:
    assert of("train", "tensorflow") >= {"keras", "h5py", "tensorflow"}
    assert of("train", "jax") >= {"keras", "h5py", "jax", "jaxlib"}


def test_all_are_installed_under_the_names_that_are_looked_up() -> None:
    for kind in KINDS:
        versions = library_versions(f"tasks.stages.{kind}", "tensorflow")
        missing = [name for name, version in versions.items() if version == "none"]
        # The only one that is optional; without it, HEIC is not read.
        assert set(missing) <= {"pillow_heif"}


def test_a_library_that_is_not_installed_has_no_version() -> None:
    assert library_version("no-such-library") == "none"


def test_the_standard_library_and_the_project_are_left_out() -> None:
    found = {name for kind in KINDS for name in libraries_of(f"tasks.stages.{kind}")}
    assert not found & (sys.stdlib_module_names | {"tasks", "flows"})


def test_machines_of_a_run_must_have_all_of_them() -> None:
    assert installation().keys() >= {"code", "prefect", "python", "tensorflow", "pillow", "scipy"}


def test_another_version_of_python_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = library_versions("tasks.stages.results", None)
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "12", "1"))
    assert library_versions("tasks.stages.results", None) == usual | {"python": "3.12"}


def test_another_package_of_the_same_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "tensorflow":
            raise PackageNotFoundError(name)
        return "2.21.0"

    monkeypatch.setattr(libraries, "version", version)
    monkeypatch.setattr(
        libraries, "packages_distributions", lambda: {"tensorflow": ["tensorflow-cpu"]}
    )
    library_version.cache_clear()
    assert library_version("tensorflow") == "tensorflow-cpu 2.21.0"
    monkeypatch.setattr(libraries, "packages_distributions", dict)
    library_version.cache_clear()
    with pytest.raises(UserError, match="without the data that tell its version"):
        library_version("tensorflow")
    library_version.cache_clear()
