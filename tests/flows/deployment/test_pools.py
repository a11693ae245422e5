"""Work pools: what goes together, and what a deployment's runs get in each type of pool."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from typing import Any
from unittest.mock import Mock

import pytest

from flows.deployment.pools import Pool, base_job_template
from tasks.core.errors import UserError

IMAGE = "registry.example.org/fashion-flow:0.1.0"


def test_a_process_pool_adds_nothing_and_leaves_paths_alone() -> None:
    pool = Pool("local")
    assert pool.job_variables() == {}
    assert pool.path("artifacts") == "artifacts"


def test_docker_runs_get_the_image_and_their_gpus() -> None:
    assert Pool("docker", "docker", IMAGE).job_variables() == {"image": IMAGE}
    given = Pool("docker", "docker", IMAGE, gpus=2).job_variables()
    assert given["device_requests"] == [{"count": 2, "capabilities": [["gpu"]]}]


def test_kubernetes_runs_with_gpus_tolerate_the_taint_of_gpu_nodes() -> None:
    assert Pool("kubernetes", "kubernetes", IMAGE).job_variables() == {"image": IMAGE}
    given = Pool("kubernetes", "kubernetes", IMAGE, gpus=1).job_variables()
    assert given["gpus"] == 1
    assert [item["key"] for item in given["tolerations"]] == ["nvidia.com/gpu"]


@pytest.mark.parametrize(
    ("path", "found"),
    [("s", "/var/lib/fashion-flow/s"), ("/data/s", "/data/s"), ("s3://b/s", "s3://b/s")],
)
def test_relative_paths_of_containers_are_below_the_working_folder(path: str, found: str) -> None:
    assert Pool("pool", "docker", IMAGE).path(path) == found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"type": "docker"}, "--type docker needs --image"),
        ({"type": "kubernetes", "gpus": 1}, "--type kubernetes needs --image"),
        ({"type": "docker", "image": "Fashion Flow"}, "expected the name of an image"),
        ({"type": "docker", "image": "a:b:c"}, "expected the name of an image"),
        ({"image": IMAGE}, "--image is only for --type docker or kubernetes"),
        ({"gpus": 1}, "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_contradictions_are_explained(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Pool("pool", **given)


@pytest.mark.parametrize(
    "image",
    ["fashion-flow", "user/fashion_flow:1", "localhost:5000/a/b:v1.0-gpu", f"a@sha256:{'0' * 64}"],
)
def test_image_names_are_accepted(image: str) -> None:
    assert Pool("pool", "docker", image).job_variables()["image"] == image


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_templates_describe_every_variable_and_use_it(kind: str) -> None:
    template = base_job_template(kind)
    variables = template["variables"]["properties"]
    used = re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"]))
    assert set(used) == set(variables)
    assert all(variable.get("description") for variable in variables.values())
    assert template["variables"]["required"] == ["image"]


def test_job_variables_of_a_run_are_kept_out_only_by_a_template_without_env() -> None:
    """What docs/deployment.md says about Prefect: a fixed `env` is merged with that of a run."""
    from prefect.workers.base import BaseJobConfiguration

    wanted = {"env": {"FASHION_FLOW_ALLOW_FUNCTIONS": "1"}, "command": "anything"}

    def configured(**changes: Any) -> BaseJobConfiguration:
        template = copy.deepcopy(base_job_template("process"))
        template["job_configuration"] = {
            name: value
            for name, value in (template["job_configuration"] | changes).items()
            if value is not ...
        }
        # No block is looked up, so nobody is asked.
        made = BaseJobConfiguration.from_template_and_values(template, wanted, client=Mock())
        return asyncio.run(made)

    assert (configured().env, configured().command) == (wanted["env"], "anything")
    fixed = configured(env={"FIXED": "yes"}, command=None)
    assert fixed.env == {"FIXED": "yes"} | {"FASHION_FLOW_ALLOW_FUNCTIONS": "1"}
    assert fixed.command is None
    assert configured(env=...).env == {}
