"""Work pools: what goes together, and what a deployment's runs get in each type of pool."""

from __future__ import annotations

import json
import re
from typing import Any

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
