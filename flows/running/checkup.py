"""What the program sees on this machine, and what is wrong with it, for `fashion-flow doctor`."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from tasks.core.errors import FashionFlowError, without_password
from tasks.core.messages import first_line, listed, quoted, shortened

GB = 1e9
# A run of the notebook's settings needs about this much in its store, with its log and report.
RUN_GB = 1.0
# Bytes that are written to see whether a folder can be written.
WRITTEN = 4096


@dataclass(frozen=True)
class Finding:
    """One thing that the program sees.

    Attributes:
        topic: what it is about, e.g. `store`.
        name: what it is.
        value: what was found.
        problem: what is wrong with it and what to do; None if nothing is.
    """

    topic: str
    name: str
    value: str
    problem: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """The finding as JSON."""
        return asdict(self)


def check_up(store: str, dataset: str) -> Iterator[Finding]:
    """Look at everything that a run depends on, one finding after the other.

    Args:
        store: the folder or URL of the store.
        dataset: the data set, as for a run.
    """
    yield from _program()
    yield from _computation()
    yield from _variables()
    yield from _environment()
    yield from _homes()
    yield from _store(store)
    yield from _server()
    yield from _data(dataset)


def _found(
    topic: str, name: str, find: Callable[[], str], advice: str = "set HOME to a folder of yours"
) -> Finding:
    """What `find` returns, or its error as the problem; `advice` for errors that give none."""
    try:
        return Finding(topic, name, find())
    except FashionFlowError as error:
        return Finding(topic, name, "-", str(error))
    except (OSError, RuntimeError) as error:
        return Finding(topic, name, "-", f"{first_line(error)}; {advice}.")


# The program and its libraries


def _program() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("program", "fashion-flow", f"{_installed('fashion-flow')}, Python {python}")
    yield Finding("program", "runs on", f"{platform.platform(terse=True)} {platform.machine()}")
    from tasks.engine.libraries import installation

    versions = {name: found for name, found in installation().items() if name != "code"}
    del versions["python"]
    yield Finding(
        "program",
        "libraries",
        ", ".join(f"{name} {found}" for name, found in versions.items()),
        _unlike_required(),
    )


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _unlike_required() -> str | None:
    """Which installed libraries the program was not made for."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(text) for text in requires("fashion-flow") or ()]
    except PackageNotFoundError:
        return "the program is not installed, only copied; run make setup."
    wrong = []
    for requirement in needed:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _installed(requirement.name)
        if found == "not installed" or not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} (needed: {requirement.specifier or 'any'})")
    return f"{listed(wrong)}; run make setup again." if wrong else None


# Where and how stages are computed


def _computation() -> Iterator[Finding]:
    from tasks.core.settings.execution import ExecutionSettings
    from tasks.engine.libraries import library_version
    from tasks.engine.profile import check_processor, resolve_profile, visible_gpus

    try:
        profile = resolve_profile(ExecutionSettings())
    except FashionFlowError as error:
        yield Finding("computation", "profile", "-", str(error))
        return
    gpus = visible_gpus()
    unused = gpus and profile["device"] == "cpu"
    yield Finding(
        "computation",
        "device",
        profile["device"] + (f", {profile['gpu']}" if "gpu" in profile else ""),
        "a GPU is visible, but CUDA's libraries are not installed; install requirements-gpu.lock."
        if unused
        else None,
    )
    backend = profile["backend"]
    yield Finding("computation", "backend", f"{backend} {library_version(backend)}")

    def instruction_set() -> str:
        check_processor(profile)
        return str(profile["instruction_set"])

    yield _found("computation", "instruction set", instruction_set)
    for name in ("processor", "caches", "numpy_code", "blas", "c_library"):
        yield Finding("computation", name.replace("_", " "), str(profile[name]))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("computation", "processors", f"{usable} for {profile['threads']} threads")


# Variables

# Those of docs/usage.md; proxies are a finding of their own.
SHOWN = re.compile(
    r"(AWS|DASK|PREFECT)_.+|FASHION_(FLOW|MNIST)_.+|KERAS_(HOME|BACKEND)|ONEDNN_MAX_CPU_ISA"
    r"|CUDA_VISIBLE_DEVICES|TMPDIR",
    re.IGNORECASE,
)
# Whose values are not shown, even if a variable only might hold one; names of files are no secrets.
SECRET = re.compile(
    r"(KEY|TOKEN|SECRET|PASSWORD|AUTH|CREDENTIAL|HEADER|CONNECTION|LICENSE)(?!.*(FILE|PATH)$)",
    re.IGNORECASE,
)
LONGEST_VALUE = 60


def _variables() -> Iterator[Finding]:
    """The variables that are set and in use, before the program sets its own."""
    from flows.running.server_address import PREFECT_DEFAULTS

    for name, value in sorted(os.environ.items()):
        if SHOWN.fullmatch(name) and PREFECT_DEFAULTS.get(name) != value:
            plain = shortened(without_password(value), LONGEST_VALUE)
            yield Finding("variables", name, "set" if SECRET.search(name) else plain)


def _environment() -> Iterator[Finding]:
    from tasks.engine.environment import changing_variables, ignored
    from tasks.storage.proxies import check_proxies, proxies_described

    names = sorted({*ignored, *changing_variables()})
    yield Finding("environment", "ignored variables", listed(names) if names else "none")

    def described() -> str:
        check_proxies()
        return proxies_described() or "none"

    yield _found("environment", "proxies", described)
    yield _found("environment", "Dask's settings", _dask)
    yield Finding(
        "environment", "locale", f"{sys.stdout.encoding}, {os.environ.get('TZ', 'local')}"
    )


def _dask() -> str:
    from flows.runners.choose import check_dask

    check_dask()
    import dask.config

    folders = [folder for folder in dask.config.paths if any(Path(folder).glob("*.y*ml"))]
    return f"read from {listed(folders)}" if folders else "no files"


# Folders


def _homes() -> Iterator[Finding]:
    from tasks.storage.object_cache import CACHE_VARIABLE, cache_folder

    yield _found(
        "folders", "working folder", lambda: str(Path.cwd()), "change to a folder that exists"
    )
    yield Finding("folders", "home", os.environ.get("HOME", "HOME is not set"))
    yield _found("folders", "Prefect's home", _prefect_home)
    yield _writable("folders", "cache", cache_folder, f"name another folder with {CACHE_VARIABLE}")
    yield _temporary_folder()


def _prefect_home() -> str:
    from flows.running.prefect_home import prefect_home, writable_home
    from flows.running.server_address import named_by_user

    # What is wrong with the files that name servers is a finding of its own.
    with suppress(FashionFlowError, OSError, RuntimeError):
        if named_by_user():
            return f"{prefect_home()}, not written to: a server is named"
    return str(writable_home())


def _temporary_folder() -> Finding:
    advice = "free some space there, or name another folder with TMPDIR"
    found = _writable("folders", "temporary", lambda: Path(tempfile.gettempdir()), advice)
    # Python takes the first of these folders that it can write to, without a word about the others.
    given = [name for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    if given and not found.problem and os.path.abspath(os.environ[given[0]]) != found.value:
        wanted = quoted(os.environ[given[0]])
        return replace(found, problem=f"{given[0]} names {wanted}, which can't be used; {advice}.")
    return found


def _writable(topic: str, name: str, find: Callable[[], Path], advice: str) -> Finding:
    found = _found(topic, name, lambda: str(find()), advice)
    if found.problem:
        return found
    folder = Path(found.value)
    nearest = next((place for place in (folder, *folder.parents) if place.is_dir()), folder)
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            # A full disk may have room for an empty file.
            file.write(bytes(WRITTEN))
    except OSError as error:
        return replace(found, problem=f"it can't be written ({error.strerror}); {advice}.")
    return found


# The store


def _store(url: str) -> Iterator[Finding]:
    from tasks.storage.health import examine

    found = examine(url)
    can = [name for name, able in found.can.items() if able]
    yield Finding("store", "place", without_password(found.place))
    yield Finding("store", "can be", listed(can) if can else "nothing", found.problem)
    if found.free is not None:
        little = found.free < RUN_GB * GB
        yield Finding(
            "store",
            "free space",
            f"{found.free / GB:.1f} GB in {found.free_in}",
            f"a run needs about {RUN_GB:.0f} GB; free some (`fashion-flow clean --dry-run` shows "
            "what it would free)."
            if little
            else None,
        )


# The Prefect server


def _server() -> Iterator[Finding]:
    from flows.running.server_address import prepare_prefect, ui_server
    from flows.running.server_check import (
        prefect_settings,
        problem_with,
        require_settings,
        settings_of_servers,
    )

    try:
        named = prepare_prefect()
        settings = prefect_settings()
        require_settings()
        problem = problem_with(named) if named else None
    except FashionFlowError as error:
        yield Finding("server", "address", "-", str(error))
        return
    if named is None:
        running = ui_server()
        unused = settings_of_servers(settings)
        yield Finding("server", "address", running or "none; a run starts a temporary one")
        yield Finding("server", "settings it ignores", listed(unused) if unused else "none")
        return
    yield Finding(
        "server",
        "address",
        f"{without_password(named.address)}, from {named.source}",
        f"it {problem}." if problem else None,
    )


# Data sets and weights


def _data(dataset: str) -> Iterator[Finding]:
    from tasks.sources.datasets import opened_data_set
    from tasks.sources.fashion_mnist import find_fashion_mnist
    from tasks.sources.keras_home import UserEnvironment, keras_home

    def fashion_mnist() -> str:
        folder = find_fashion_mnist(UserEnvironment(), Path.cwd())
        return str(folder) if folder else "not here; a run downloads it, or draws images instead"

    yield _found("data", "Fashion-MNIST", fashion_mnist, "change to a folder that exists")
    if dataset not in ("auto", "fashion-mnist", "synthetic"):

        def own() -> str:
            with opened_data_set(dataset) as collection:
                entries = collection.entries
            classes = len({entry.label for entry in entries})
            return f"{len(entries):,} images of {classes:,} classes"

        yield _found("data", shortened(dataset, 40), own, "correct --dataset")

    def weights() -> str:
        found = sorted((keras_home() / "models").glob("vgg16_weights*notop.h5"))
        return str(found[0]) if found else "not here; a run downloads them"

    yield _found("data", "VGG16's weights", weights)
