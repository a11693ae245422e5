"""The image, job templates and `prefect.yaml`, checked without a container engine."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml
from docker.models.containers import _create_container_args
from prefect.client.orchestration import get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.types.entrypoint import EntrypointType
from prefect_docker.worker import DockerWorker, DockerWorkerJobConfiguration
from prefect_kubernetes.worker import KubernetesWorker, KubernetesWorkerJobConfiguration

from flows.cli.app import main
from flows.deployment.deploy import ENVIRONMENT
from flows.deployment.pools import base_job_template
from flows.runners.base import Runner
from tasks.core.settings.run_settings import Settings
from tests.conftest import ROOT
from tests.distributed.looks import look
from tests.processes import Server

NAMES = ("local", "gpu", "docker", "kubernetes")
CLUSTERS = ("1.30", "1.37")
IMAGE = "registry.example.org/fashion-flow:0.1.0"
RUN_S = 120

# The image


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Instructions with their arguments; continued lines are joined, comments removed."""
    lines = (line for line in dockerfile.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    split = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [(name.upper(), " ".join(rest.split())) for name, rest in split]


def ignored(path: str, dockerignore: str) -> bool:
    """Whether a path at the context's root is ignored; the last pattern that matches decides."""
    found = False
    for pattern in dockerignore.splitlines():
        if pattern and not pattern.startswith("#") and fnmatch(path, pattern.removeprefix("!")):
            found = not pattern.startswith("!")
    return found


def faults(dockerfile: str, dockerignore: str) -> list[str]:
    """Violations of our rules: pinned base, local sources, hashed packages, not root."""
    found = []
    defaults: dict[str, str] = {}
    stages: set[str] = set()
    user = ""
    for name, rest in instructions(dockerfile):
        words = rest.split()
        if name == "ARG":
            key, _, value = rest.partition("=")
            defaults[f"${{{key}}}"] = value
        elif name == "FROM":
            base = defaults.get(words[0], words[0])
            if base not in stages and not re.search(r":(?!latest)[\w.-]+|@sha256:", base):
                found.append(f"not pinned: {base}")
            stages |= set(words[2:])
            user = ""
        elif name == "ADD":
            found.append(f"ADD {rest}")
        elif name == "COPY" and not words[0].startswith("--from="):
            for source in words[:-1]:
                path = defaults.get(source, source)
                if not (ROOT / path).exists() or ignored(path, dockerignore):
                    found.append(f"not in the context: {path}")
        elif name == "RUN" and "install" in words and "pip" in words:
            if "--require-hashes" not in words and not {"--no-deps", "--no-index"} <= set(words):
                found.append(f"not by hash: {rest}")
        elif name == "USER":
            user = words[0]
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        found.append(f"runs as {user or 'root'}")
    return found


DOCKERFILE = (ROOT / "Dockerfile").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()


def test_the_dockerfile_follows_our_rules() -> None:
    assert faults(DOCKERFILE, IGNORE) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("python:3.12-slim-trixie\n", "python\n", "not pinned: python"),
        ("python:3.12-slim-trixie\n", "python:latest\n", "not pinned: python:latest"),
        ("COPY flows flows", "ADD https://example.org/flows flows", "ADD https://example.org/"),
        ("COPY flows flows", "COPY notes flows", "not in the context: notes"),
        ("COPY flows flows", "COPY data flows", "not in the context: data"),
        ("--require-hashes", "", "not by hash: python -m venv"),
        ("--no-deps", "", "not by hash: pip"),
        ("USER 10001:10001", "", "runs as root"),
        ("USER 10001:10001", "USER fashion-flow", "runs as fashion-flow"),
    ],
)
def test_a_dockerfile_that_breaks_a_rule_is_noticed(old: str, new: str, fault: str) -> None:
    assert old in DOCKERFILE
    (found,) = set(faults(DOCKERFILE.replace(old, new), IGNORE))
    assert found.startswith(fault)


@pytest.mark.parametrize("name", ["data", "artifacts", ".git", ".env", "prefect.yaml", ".venv"])
def test_the_build_context_leaves_out_what_the_image_does_not_need(name: str) -> None:
    assert ignored(name, IGNORE)


def hadolint(dockerfile: str) -> subprocess.CompletedProcess[str]:
    command = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or "hadolint"
    return subprocess.run(
        [command, "--no-color", "-"], input=dockerfile, capture_output=True, text=True, check=False
    )


def test_hadolint_finds_nothing() -> None:
    assert hadolint(DOCKERFILE).stdout == ""
    assert "DL3002" in hadolint(DOCKERFILE.replace("USER 10001:10001", "USER root")).stdout
    assert "DL3042" in hadolint(DOCKERFILE.replace("--no-cache-dir", "")).stdout


def test_the_files_that_the_image_copies_make_a_complete_package(tmp_path: Path) -> None:
    for name, rest in instructions(DOCKERFILE):
        for source in rest.split()[:-1] if name == "COPY" and "--from" not in rest else ():
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(path, tmp_path / source)
            elif path.is_file():
                shutil.copy(path, tmp_path / source)
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    wheel = zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1])
    wanted = {
        str(path.relative_to(ROOT))
        for package in ("flows", "tasks")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".json", ".j2")
    }
    assert "flows/deployment/templates/kubernetes.json" in wanted
    assert wanted <= set(wheel.namelist())


def locked(name: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_image_for_gpus_differs_only_in_cuda() -> None:
    more = locked("requirements-gpu.lock") - locked("requirements.lock")
    assert locked("requirements.lock") <= locked("requirements-gpu.lock")
    assert more
    assert all(name.startswith("nvidia-") for name in more), more


# What is deployed


def commands() -> dict[str, list[str]]:
    """The command above each deployment of `prefect.yaml`, by the deployment's name."""
    text = (ROOT / "prefect.yaml").read_text()
    found = re.findall(r"# fashion-flow (deploy .*)\n  - name: (\S+)", text)
    return {name: shlex.split(command) for command, name in found}


class Deployed:
    """A server with deployments by `fashion-flow deploy` and then by `prefect deploy --all`."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self.by_command: dict[str, dict[str, Any]] = {}
        self.by_file: dict[str, dict[str, Any]] = {}

    def deploy(self, *arguments: str) -> int:
        """Run `fashion-flow deploy` in this process, because importing Prefect takes seconds."""
        return main(["deploy", *arguments])

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.url}/{path}").raise_for_status().json()

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"deployments/name/build-model/{name}")
        return found

    def configuration(self, kind: type[Any], name: str, **job_variables: Any) -> Any:
        """The job configuration that a worker prepares for a run of a deployment."""
        return asyncio.run(self._configuration(kind, name, job_variables))

    async def _configuration(
        self, kind: type[Any], name: str, job_variables: dict[str, Any]
    ) -> Any:
        async with get_client() as client:
            deployment = await client.read_deployment_by_name(f"build-model/{name}")
            assert deployment.work_pool_name
            return await kind.resolve_for_flow_run(
                await client.create_flow_run_from_deployment(
                    deployment.id, job_variables=job_variables
                ),
                client=client,
                work_pool=await client.read_work_pool(deployment.work_pool_name),
                worker_name="worker",
                deployment=deployment,
            )


@pytest.fixture(scope="module")
def deployed(shared_server: Server, environment: dict[str, str]) -> Iterator[Deployed]:
    made = Deployed(shared_server)
    settings = {PREFECT_API_URL: made.url, PREFECT_HOME: Path(environment["PREFECT_HOME"])}
    with pytest.MonkeyPatch.context() as patch, temporary_settings(settings):
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setenv("PREFECT_API_URL", made.url)
        # The command sets variables for its own process.
        before = dict(os.environ)
        for name, command in commands().items():
            assert made.deploy(*command[1:]) == 0, command
            made.by_command[name] = made.deployment(name)
        subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=ROOT,
            env=environment | {"PREFECT_API_URL": made.url},
            check=True,
            capture_output=True,
        )
        made.by_file = {name: made.deployment(name) for name in NAMES}
        yield made
        for name in os.environ.keys() - before.keys():
            patch.delenv(name)


def comparable(deployment: dict[str, Any], home: str) -> dict[str, Any]:
    """A deployment in one form: all settings, absolute paths, no dates and ids."""
    given = deployment["parameters"]
    return {
        "settings": Settings.model_validate(given["settings"]),
        "store": given["store"].replace("~", home),
        "require_success": given["require_success"],
        "schedules": [item["schedule"] for item in deployment["schedules"]],
        "runner": Runner.model_validate(given["runner"]),
        **{
            name: deployment[name] or None
            for name in (
                "description",
                "enforce_parameter_schema",
                "entrypoint",
                "job_variables",
                "parameter_openapi_schema",
                "path",
                "paused",
                "pull_steps",
                "tags",
                "work_pool_name",
                "work_queue_name",
            )
        },
    }


def test_each_deployment_of_the_file_names_its_command() -> None:
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert [item["name"] for item in listed] == list(commands()) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_prefect_yaml_deploys_what_fashion_flow_deploys(
    name: str, deployed: Deployed, environment: dict[str, str]
) -> None:
    by_command, by_file = deployed.by_command[name], deployed.by_file[name]
    assert by_command["id"] == by_file["id"]
    assert by_command["updated"] != by_file["updated"]
    home = environment["HOME"]
    assert comparable(by_file, home) == comparable(by_command, home)
    assert not any(schedule["active"] for schedule in by_file["schedules"])
    pool, queue = by_file["work_pool_name"], by_file["work_queue_name"]
    assert deployed.get(f"work_pools/{pool}/queues/{queue}")["concurrency_limit"] == 1
    assert deployed.get(f"work_pools/{by_file['work_pool_name']}")["type"] == (
        name if name in ("docker", "kubernetes") else "process"
    )


# Kubernetes


def checked(job: dict[str, Any]) -> dict[str, Any]:
    """A job's pod, after a strict check against the schemas of Kubernetes.

    Prefect demands two fields of the pod that only a job has; Kubernetes ignores them with a
    warning. Whatever else is wrong is an error.
    """
    job = copy.deepcopy(job)
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    assert (pod.pop("parallelism"), pod.pop("completions")) == (1, 1)
    for version in CLUSTERS:
        kubernetes_validate.validate(job, version, strict=True)
    return pod


def test_a_job_is_valid_and_has_a_gpu_and_no_privileges(deployed: Deployed) -> None:
    job = deployed.configuration(KubernetesWorkerJobConfiguration, "kubernetes").job_manifest
    pod = checked(job)
    (container,) = pod["containers"]
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["ttlSecondsAfterFinished"] > 0
    assert container["image"] == "registry.example.org/fashion-flow:0.1.0-gpu"
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert container["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
    assert [item["key"] for item in pod["tolerations"]] == ["nvidia.com/gpu"]
    assert container["envFrom"] == [{"secretRef": {"name": "fashion-flow", "optional": True}}]
    given = {item["name"]: item["value"] for item in container["env"]}
    assert given["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert given["PREFECT_API_URL"] == deployed.url
    # Not the one of the worker.
    assert given["PREFECT_HOME"] == "/home/fashion-flow/.prefect"
    assert pod["securityContext"]["runAsNonRoot"]
    assert f"USER {pod['securityContext']['runAsUser']}:" in DOCKERFILE
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {item["name"]: item for item in pod["volumes"]}
    mounts = {item["mountPath"]: volumes[item["name"]] for item in container["volumeMounts"]}
    assert mounts["/var/lib/fashion-flow"]["persistentVolumeClaim"] == {"claimName": "fashion-flow"}
    assert all("emptyDir" in mounts[path] for path in ("/tmp", "/home/fashion-flow"))


def test_a_job_without_a_gpu_requests_none(deployed: Deployed) -> None:
    assert deployed.deploy("plain", "--type", "kubernetes", "--image", IMAGE) == 0
    found = deployed.configuration(KubernetesWorkerJobConfiguration, "plain")
    pod = checked(found.job_manifest)
    assert pod["containers"][0]["resources"]["limits"] == {}
    assert not pod.keys() & {"tolerations", "nodeSelector", "serviceAccountName"}


def test_every_variable_appears_in_a_valid_job(deployed: Deployed) -> None:
    given = {
        "image": IMAGE,
        "namespace": "models",
        "service_account_name": "trainer",
        "gpus": 2,
        "cpu_limit": "8",
        "cpu_request": "500m",
        "memory_limit": "32Gi",
        "memory_request": "16Gi",
        "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100"},
        "tolerations": [{"key": "gpu", "operator": "Equal", "value": "yes"}],
        "secret": "keys",
        "work_volume": {"name": "work", "emptyDir": {}},
        "finished_job_ttl": 60,
        "image_pull_policy": "Always",
        "annotations": {"example.org/team": "vision"},
        "labels": {"team": "vision"},
    }
    found = deployed.configuration(
        KubernetesWorkerJobConfiguration,
        "kubernetes",
        **given,
        env={"AWS_REGION": "eu-central-1"},
    )
    pod = checked(found.job_manifest)
    for name, value in given.items():
        assert holds(found.job_manifest, value), name
    env = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    assert env["AWS_REGION"] == "eu-central-1"
    # The deployment's own variables remain.
    assert env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def holds(tree: Any, value: Any) -> bool:
    """Whether a tree contains a value, or a mapping with at least its items."""
    if isinstance(tree, dict):
        if isinstance(value, dict) and value.items() <= tree.items():
            return True
        return any(holds(item, value) for item in tree.values())
    if isinstance(tree, list) and tree != value:
        return any(holds(item, value) for item in tree)
    return bool(tree == value)


def test_the_check_notices_a_wrong_job(deployed: Deployed) -> None:
    job = deployed.configuration(KubernetesWorkerJobConfiguration, "kubernetes").job_manifest
    with pytest.raises(kubernetes_validate.ValidationError, match="unexpected"):
        kubernetes_validate.validate(job, CLUSTERS[0], strict=True)
    job["spec"]["template"]["spec"]["runtimeClass"] = "nvidia"
    with pytest.raises(kubernetes_validate.ValidationError, match="runtimeClass"):
        checked(job)


def test_the_server_refuses_zero_gpus_and_a_missing_image(deployed: Deployed) -> None:
    run = f"{deployed.url}/deployments/{deployed.by_file['kubernetes']['id']}/create_flow_run"
    for wrong in ({"gpus": 0}, {"image": None}):
        answer = httpx.post(run, json={"job_variables": wrong})
        assert answer.status_code == 422, answer.text


def test_the_manifests_of_the_documentation_are_valid() -> None:
    text = (ROOT / "docs/containers.md").read_text()
    found = [
        manifest
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        for manifest in yaml.safe_load_all(block)
    ]
    assert [manifest["kind"] for manifest in found] == ["PersistentVolumeClaim", "Secret"]
    for manifest in found:
        assert manifest["metadata"]["name"] == "fashion-flow"
        for version in CLUSTERS:
            kubernetes_validate.validate(manifest, version, strict=True)


# Docker


class Engine:
    """Answers the one question that Prefect asks an engine before it creates a container."""

    def version(self) -> dict[str, str]:
        return {"Version": "28.2.2"}


def container(configuration: DockerWorkerJobConfiguration) -> dict[str, Any]:
    """The request that docker-py sends to an engine for a run."""
    worker = DockerWorker(work_pool_name="docker")
    given = worker._build_container_settings(Engine(), configuration)
    made: dict[str, Any] = _create_container_args(given | {"version": "1.44"})
    return made


def test_a_container_has_a_gpu_and_no_privileges(deployed: Deployed) -> None:
    made = container(deployed.configuration(DockerWorkerJobConfiguration, "docker"))
    assert made["image"] == "fashion-flow:0.1.0-gpu"
    assert made["command"] == "prefect flow-run execute"
    assert made["environment"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    assert made["environment"]["PREFECT_HOME"] == "/home/fashion-flow/.prefect"
    # Only this machine can reach a server on its loopback interface.
    assert made["environment"]["PREFECT_API_URL"] == deployed.url
    host = made["host_config"]
    assert host["NetworkMode"] == "host"
    (request,) = host["DeviceRequests"]
    assert (request["Count"], request["Capabilities"]) == (1, [["gpu"]])
    assert host["ReadonlyRootfs"]
    assert host["Init"]
    assert not host.get("Privileged")
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Binds"] == ["fashion-flow:/var/lib/fashion-flow"]
    assert set(host["Tmpfs"]) == {"/tmp", "/home/fashion-flow"}


def test_a_container_without_a_gpu_requests_none(deployed: Deployed) -> None:
    given = ("--type", "docker", "--image", IMAGE, "--store", "s")
    assert deployed.deploy("plain", *given) == 0
    assert deployed.deployment("plain")["parameters"]["store"] == "/var/lib/fashion-flow/s"
    made = container(deployed.configuration(DockerWorkerJobConfiguration, "plain"))
    assert not made["host_config"].get("DeviceRequests")


# Templates


@pytest.mark.parametrize(
    ("worker", "ours", "fixed"),
    [
        (DockerWorker, "docker", {"privileged", "container_create_kwargs"}),
        (KubernetesWorker, "kubernetes", {"backoff_limit"}),
    ],
)
def test_our_templates_have_the_variables_of_prefect_s(
    worker: Any, ours: str, fixed: set[str]
) -> None:
    theirs, template = worker.get_default_base_job_template(), base_job_template(ours)
    known = template["variables"]["properties"].keys()
    assert theirs["variables"]["properties"].keys() - known == fixed
    assert template["job_configuration"].keys() | fixed >= theirs["job_configuration"].keys()
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(known)


# Mistakes


def test_a_pool_of_another_type_is_explained(
    deployed: Deployed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deployed.deploy("--pool", "docker") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "'docker' has type 'docker'; use --type docker" in said


# GPUs of this machine


def test_a_run_sees_the_gpus_of_its_worker(
    deployed: Deployed, environment: dict[str, str], tmp_path: Path
) -> None:
    deployment = RunnerDeployment.from_flow(
        look,
        "gpu",
        entrypoint_type=EntrypointType.MODULE_PATH,
        work_pool_name="gpu",
        job_variables={"env": ENVIRONMENT},
    ).apply()
    seen, log = tmp_path / "seen", tmp_path / "worker.log"
    httpx.post(
        f"{deployed.url}/deployments/{deployment}/create_flow_run",
        json={"parameters": {"path": str(seen)}},
    ).raise_for_status()
    worker = ("worker", "start", "--pool", "gpu", "--limit", "1", "--run-once")
    with log.open("wb") as output:
        subprocess.run(
            [sys.executable, "-m", "prefect", *worker],
            cwd=tmp_path,
            env=environment | {"PREFECT_API_URL": deployed.url, "CUDA_VISIBLE_DEVICES": "3"},
            stdout=output,
            stderr=output,
            timeout=RUN_S,
            check=True,
        )
    assert seen.exists(), log.read_text()
    assert seen.read_text() == "3"
