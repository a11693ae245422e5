"""Work pools: where a deployment runs, and what its workers start for each run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tasks.core.errors import UserError
from tasks.core.messages import quoted

PoolType = Literal["process", "docker", "kubernetes"]
PROCESS, DOCKER, KUBERNETES = "process", "docker", "kubernetes"
# The working folder of the image (Dockerfile). A volume is mounted there.
WORK = PurePosixPath("/var/lib/fashion-flow")
# [registry[:port]/]name[:tag][@digest], the form that container engines accept.
IMAGE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True)
class Pool:
    """A work pool, and the resources of one deployment's runs in it.

    Attributes:
        name: the pool's name on the server.
        type: `process`, `docker` or `kubernetes`.
        image: the image for the container of each run; None in a process pool.
        gpus: the number of GPUs for the container of each run; 0 in a process pool.

    Raises:
        UserError: the values contradict each other, or the image's name is malformed.
    """

    name: str
    type: str = PROCESS
    image: str | None = None
    gpus: int = 0

    def __post_init__(self) -> None:
        if self.type == PROCESS:
            if self.image:
                raise UserError("--image is only for --type docker or kubernetes.")
            if self.gpus:
                raise UserError(
                    "--gpus is only for --type docker or kubernetes; a process sees the GPUs in "
                    "its worker's CUDA_VISIBLE_DEVICES (docs/deployment.md)."
                )
        elif not self.image:
            raise UserError(
                f"--type {self.type} needs --image, the name of this project's image "
                "(docs/containers.md)."
            )
        elif not IMAGE.fullmatch(self.image):
            raise UserError(
                f"--image {quoted(self.image)}: expected the name of an image, e.g. "
                "registry.example.org/fashion-flow:0.1.0."
            )

    def job_variables(self) -> dict[str, Any]:
        """The values of the variables in the pool's job template."""
        if self.type == PROCESS:
            return {}
        variables: dict[str, Any] = {"image": self.image}
        if self.gpus and self.type == DOCKER:
            variables["device_requests"] = [{"count": self.gpus, "capabilities": [["gpu"]]}]
        elif self.gpus:
            variables["gpus"] = self.gpus
            # Nodes with GPUs usually have a taint that keeps other pods away.
            variables["tolerations"] = [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            ]
        return variables

    def path(self, path: str) -> str:
        """A path as runs in the pool see it; in containers, relative paths are below `WORK`."""
        return path if self.type == PROCESS or "://" in path else str(WORK / path)

    def ensure(self) -> None:
        """Create the pool on the server unless it exists.

        Raises:
            UserError: it exists with another type.
        """
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import WorkPoolCreate
        from prefect.exceptions import ObjectNotFound

        with get_client(sync_client=True) as client:
            try:
                found = client.read_work_pool(self.name)
            except ObjectNotFound:
                template = base_job_template(self.type)
                client.create_work_pool(
                    WorkPoolCreate(name=self.name, type=self.type, base_job_template=template)
                )
                return
        if found.type != self.type:
            raise UserError(
                f"work pool {quoted(self.name)} has type {quoted(found.type)}; use --type "
                f"{found.type}, or name another pool with --pool to create one of type "
                f"{quoted(self.type)}."
            )


def base_job_template(pool_type: str) -> dict[str, Any]:
    """The template of what a worker starts for a run, with the variables that deployments set.

    The templates for containers are files of this package, so that only workers need prefect-docker
    or prefect-kubernetes.
    """
    if pool_type == PROCESS:
        from prefect.workers.process import ProcessWorker

        return ProcessWorker.get_default_base_job_template()
    path = Path(__file__).parent / "templates" / f"{pool_type}.json"
    template: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return template
