"""Two trainings have the same bytes in any environment; where they can't, they have other keys.

All runs use one Prefect server, so that each takes seconds. Each environment has a store of its
own, and what is compared is every file of every stage, by key.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from pathlib import Path

import pytest

from tests.conftest import RUN_S, running_server
from tests.processes import Server

# Whichever test comes first also waits for the runs in the usual environment.
pytestmark = pytest.mark.timeout(4 * RUN_S)

STAGES = ("baseline", "low_capacity", "guard", "explore", "look")
# In a second run into the same store: the index of the guard, and a network of today's.
NEWER = ("overfitting", "guard", "look")
SIZES = {
    "synthetic.train": 600,
    "synthetic.test": 200,
    "subset.train": 200,
    "subset.validation": 100,
    "subset.test": 100,
}
NEWER_SETTINGS = {
    "guard.search": "index",
    "class_weight": "balanced",
    "overfitting.network.family": "compact",
    "overfitting.epochs": "1",
    "plan": "[]",
}


def options(stages: Sequence[str], settings: Mapping[str, object]) -> list[str]:
    """The options of `run` for some stages."""
    return [
        *("--preset", "smoke", "--transfer-weights", "off"),
        *(option for stage in stages for option in ("--only", stage)),
        *(option for name, value in settings.items() for option in ("--set", f"{name}={value}")),
    ]


# The second one takes as long as the first, so `make test` leaves it out.
RUNS = (options(STAGES, SIZES), options(NEWER, {**SIZES, **NEWER_SETTINGS}))
TRAINED = ("baseline", "low_capacity", "overfitting")
KERAS_JSON = json.dumps(
    {
        "floatx": "float16",
        "epsilon": 0.001,
        "backend": "jax",
        "image_data_format": "channels_first",
    }
)
FASTER = {
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
}


@dataclass(frozen=True)
class Environment:
    """What differs from the usual environment.

    Attributes:
        variables: environment variables; `{home}` stands for a folder of the test's own.
        files: files in that folder.
        before: called in the new process before the program.
        options: options of `run`.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    before: tuple[Callable[[], object], ...] = ()
    options: tuple[str, ...] = ()

    def __or__(self, other: Environment) -> Environment:
        return Environment(
            {**self.variables, **other.variables},
            {**self.files, **other.files},
            self.before + other.before,
            self.options + other.options,
        )


SAME = {
    "hash seed": Environment({"PYTHONHASHSEED": "7"}),
    "variables of a locale": Environment({"LANG": "tr_TR.UTF-8", "LC_NUMERIC": "de_DE.UTF-8"}),
    "ASCII": Environment({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "time zone": Environment({"TZ": "Pacific/Kiritimati"}),
    "umask": Environment(before=(lambda: os.umask(0o077),)),
    "priority": Environment(before=(lambda: os.nice(5),)),
    "one processor": Environment(
        before=(lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),)
    ),
    "few open files": Environment(
        before=(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512)),)
    ),
    "threads": Environment(
        {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "NUMEXPR_NUM_THREADS": "1",
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_NUM_INTRAOP_THREADS": "1",
        }
    ),
    "stages one after the other": Environment(options=("--set", "execution.workers=1")),
    "keras.json": Environment({"KERAS_HOME": "{home}"}, {"keras.json": KERAS_JSON}),
    "keras.json in the home folder": Environment(
        {"HOME": "{home}"}, {".keras/keras.json": KERAS_JSON}
    ),
    "broken keras.json": Environment({"KERAS_HOME": "{home}"}, {"keras.json": '{"epsilon": 1}'}),
    "Keras's variables": Environment(
        {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1", "KERAS_NNX_ENABLED": "1"}
    ),
    "XLA": Environment(FASTER),
    "oneDNN's precision": Environment(
        {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "TF_ENABLE_ONEDNN_OPTS": "0"}
    ),
    "oneDNN's hints": Environment(
        {"ONEDNN_CPU_ISA_HINTS": "PREFER_YMM", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0"}
    ),
    "a proxy": Environment(
        dict.fromkeys(
            ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"
        )
    ),
    "Matplotlib's settings": Environment(
        {"MATPLOTLIBRC": "{home}", "MPLBACKEND": "pdf"},
        {"matplotlibrc": "figure.dpi: 30\nfont.size: 30\nlines.linewidth: 9\n"},
    ),
    "Python's switches": Environment({"PYTHONOPTIMIZE": "2", "PYTHONDONTWRITEBYTECODE": "1"}),
    "Prefect's settings": Environment(
        {
            "PREFECT_TASKS_DEFAULT_RETRIES": "3",
            "PREFECT_TASKS_REFRESH_CACHE": "1",
            "PREFECT_TASKS_DEFAULT_NO_CACHE": "1",
            "PREFECT_TASKS_DEFAULT_PERSIST_RESULT": "1",
            "PREFECT_FLOWS_DEFAULT_RETRIES": "2",
            "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
            "PREFECT_LOCAL_STORAGE_PATH": "/proc/x",
            "PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS": "1",
            "PREFECT_API_KEY": "of-no-server",
            "PREFECT_API_AUTH_STRING": "joe:of-no-server",
            "PREFECT_API_ENABLE_HTTP2": "1",
            "PREFECT_LOGGING_LEVEL": "ERROR",
        }
    ),
    "settings of Dask and AWS": Environment(
        {
            "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
            "DASK_CONFIG": "{home}",
            "AWS_DEFAULT_REGION": "a b",
            "AWS_CONFIG_FILE": "{home}/dask.yaml",
        },
        {"dask.yaml": "[broken\n"},
    ),
    "no home": Environment({"HOME": "/proc/1/nope", "MPLCONFIGDIR": "/proc/1/nope"}),
}


# The same, several at a time, for `make test`.
TOGETHER = {
    "process": (
        *("hash seed", "variables of a locale", "time zone", "umask", "priority"),
        *("one processor", "few open files", "Python's switches"),
    ),
    "libraries": (
        *("threads", "stages one after the other", "keras.json", "Keras's variables", "XLA"),
        *("oneDNN's precision", "oneDNN's hints", "a proxy", "Matplotlib's settings"),
        *("Prefect's settings", "settings of Dask and AWS"),
    ),
    "home": ("keras.json in the home folder", "ASCII"),
    "broken": ("broken keras.json", "no home"),
}


@pytest.fixture(scope="module")
def clean(environment: dict[str, str]) -> dict[str, str]:
    """The usual environment, without what this machine may limit."""
    return {name: value for name, value in environment.items() if "ONEDNN" not in name}


@pytest.fixture(scope="module")
def server(environment: dict[str, str]) -> Iterator[Server]:
    with running_server(environment) as running:
        yield running


def stored_in(
    given: Environment,
    folder: Path,
    usual: Mapping[str, str],
    server: Server,
    runs: Sequence[Sequence[str]],
) -> dict[str, dict[str, str]]:
    """The digests of all files of a new store, by stage and key, after runs in an environment."""
    home, store = folder / "home", folder / "store"
    home.mkdir(parents=True)
    for name, text in given.files.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    variables = {name: value.format(home=home) for name, value in given.variables.items()}

    def before() -> None:
        for step in given.before:
            step()

    for asked in runs:
        command = [sys.executable, "-m", "flows", "run", *asked, *given.options]
        done = subprocess.run(
            [*command, "--store", str(store)],
            cwd=folder,
            env={**usual, "PREFECT_API_URL": server.url, **variables},
            preexec_fn=before,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return {
        f"{path.parent.parent.name} {found['key']}": {
            name: file["sha256"] for name, file in found["files"].items()
        }
        for path in store.glob("stages/*/*/record.json")
        for found in [json.loads(path.read_text())]
    }


@pytest.fixture(scope="module")
def runs(pytestconfig: pytest.Config) -> Sequence[Sequence[str]]:
    """The runs that are made in each environment."""
    return RUNS if pytestconfig.getoption("--full") else RUNS[:1]


@pytest.fixture(scope="module")
def usual(
    clean: dict[str, str],
    server: Server,
    runs: Sequence[Sequence[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, dict[str, str]]:
    """What runs in the usual environment store."""
    stored = stored_in(Environment(), tmp_path_factory.mktemp("usual"), clean, server, runs)
    made = {stage.split()[0] for stage in stored}
    assert made >= {*STAGES, *(NEWER if len(runs) > 1 else ())}
    return stored


def test_every_environment_is_tried_in_a_group() -> None:
    assert sorted(name for names in TOGETHER.values() for name in names) == sorted(SAME)


@pytest.mark.parametrize("name", [*TOGETHER, *SAME])
def test_the_environment_changes_no_key_and_no_byte(
    name: str,
    request: pytest.FixtureRequest,
    usual: dict[str, dict[str, str]],
    clean: dict[str, str],
    server: Server,
    runs: Sequence[Sequence[str]],
    tmp_path: Path,
) -> None:
    """A group of environments at once; with `--full` also each alone."""
    if name in SAME:
        request.getfixturevalue("full")
    given = reduce(or_, (SAME[one] for one in TOGETHER.get(name, (name,))))
    assert stored_in(given, tmp_path, clean, server, runs) == usual


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN's instruction sets are of x86")
def test_another_processor_gives_other_bytes_under_other_keys(
    usual: dict[str, dict[str, str]],
    clean: dict[str, str],
    server: Server,
    runs: Sequence[Sequence[str]],
    tmp_path: Path,
) -> None:
    """The negative control: the comparison above sees a difference where there is one."""
    sse = Environment({"ONEDNN_MAX_CPU_ISA": "SSE41"})
    other = stored_in(sse, tmp_path, clean, server, runs)
    for stage in TRAINED if len(runs) > 1 else TRAINED[:2]:
        (one,), (two,) = (
            [(key, files) for key, files in found.items() if key.split()[0] == stage]
            for found in (usual, other)
        )
        assert one[0] != two[0]
        assert one[1] != two[1]
    data = {key: files for key, files in usual.items() if key.split()[0] not in TRAINED}
    assert data == {key: files for key, files in other.items() if key.split()[0] not in TRAINED}
