"""Work pools: where a deployment runs, and what its workers start there."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from tasks.core.errors import UserError

PoolType = Literal["process", "docker", "kubernetes"]
PROCESS, DOCKER, KUBERNETES = "process", "docker", "kubernetes"
# The working folder of the image (Dockerfile), where a volume is mounted.
WORK = PurePosixPath("/var/lib/fashion-flow")
# [registry[:port]/]name[:tag][@digest], as container engines take it.
IMAGE = re.compile(
    r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)


@dataclass(frozen=True)
class Pool:
    """A work pool, and what this deployment's runs get in it.

    Args:
        name: the pool's name on the server.
        type: `process`, `docker` or `kubernetes`.
        image: the image of each run's container; none in a process pool.
        gpus: how many GPUs each run's container gets.

    Raises:
        UserError: they do not go together, or the image's name is none.
    """

    name: str
    type: str = PROCESS
    image: str | None = None
    gpus: int = 0

    def __post_init__(self) -> None:
        if self.type == PROCESS:
            if self.image:
                raise UserError("--image is for --type docker or kubernetes, which have images.")
            if self.gpus:
                raise UserError(
                    "--gpus is for --type docker or kubernetes; a process sees the GPUs that "
                    "CUDA_VISIBLE_DEVICES of its worker names (docs/deployment.md)."
                )
        elif not self.image:
            raise UserError(
                f"--type {self.type} needs --image, the name under which the image of this "
                "project was built (docs/containers.md)."
            )
        elif not IMAGE.fullmatch(self.image):
            raise UserError(
                f"--image {self.image!r}: expected the name of an image, such as "
                "registry.example.org/fashion-flow:0.1.0."
            )

    def job_variables(self) -> dict[str, Any]:
        """What the pool's job template gets for this deployment's runs."""
        if self.type == PROCESS:
            return {}
        variables: dict[str, Any] = {"image": self.image}
        if self.gpus and self.type == DOCKER:
            variables["device_requests"] = [{"count": self.gpus, "capabilities": [["gpu"]]}]
        elif self.gpus:
            variables["gpus"] = self.gpus
            # Nodes with GPUs are commonly kept free of all that does not say this.
            variables["tolerations"] = [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
            ]
        return variables

    def path(self, path: str) -> str:
        """Where a run finds a path: in containers, relative ones are below `WORK`."""
        return path if self.type == PROCESS or "://" in path else str(WORK / path)

    def ensure(self) -> None:
        """Create the pool on the server unless it is there.

        Raises:
            UserError: it is there with another type.
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
                f"work pool {self.name!r} is of type {found.type!r}; say --type {found.type}, or "
                f"name another with --pool, which is made with type {self.type!r}."
            )


def base_job_template(pool_type: str) -> dict[str, Any]:
    """What workers of such a pool start, with the variables that deployments may set.

    Those for containers lie beside this module, so that neither prefect-docker nor
    prefect-kubernetes is needed but where workers run.
    """
    if pool_type == PROCESS:
        from prefect.workers.process import ProcessWorker

        return ProcessWorker.get_default_base_job_template()
    path = Path(__file__).parent / "templates" / f"{pool_type}.json"
    template: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return template
