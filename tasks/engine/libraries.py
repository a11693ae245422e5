"""The versions of the libraries that can change a stage's bytes."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec

from tasks.core.errors import UserError
from tasks.core.stage_specs import SPECS
from tasks.engine.fingerprint import code_digest, libraries_of

# Libraries that write the files of every stage.
WRITING = ("numpy", "pyarrow")
# Libraries that others use for what is stored: Matplotlib for the layout and the bytes of a PNG,
# Keras for HDF5, JAX for everything that it computes.
IMPLIED = {
    "matplotlib": ("pillow", "kiwisolver", "contourpy"),
    "keras": ("h5py",),
    "jax": ("jaxlib",),
}
# Where a library's package has another name on PyPI.
DISTRIBUTIONS = {"PIL": "pillow", "faiss": "faiss-cpu"}
MODULES = {"pillow": "PIL"}
# They fetch files, whose digests are compared.
NEUTRAL = {"httpx", "boto3", "botocore"}


@cache
def library_version(name: str) -> str:
    """The version of a library that is installed here, read once; `none` if it is not.

    Raises:
        UserError: it can be imported, but does not say which version it is.
    """
    with suppress(PackageNotFoundError):
        return version(DISTRIBUTIONS.get(name, name))
    module = MODULES.get(name, name)
    # Other packages with the same module: tensorflow-cpu, a distribution's own ...
    for other in packages_distributions().get(module, ()):
        return f"{other} {version(other)}"
    if find_spec(module) is None:
        return "none"
    raise UserError(
        f"{name} is installed without the data that tell its version, on which results depend; "
        "install it with pip, or run make setup."
    )


def library_versions(stage: str, backend: str | None) -> dict[str, str]:
    """Versions of all that a stage's code imports, of what files are written with, and of Python.

    Args:
        stage: the stage's module, e.g. `tasks.stages.train`.
        backend: Keras's backend if the stage is computed with it.
    """
    names = {*WRITING, *libraries_of(stage), *([backend] if backend else [])} - NEUTRAL
    implied = {more for name in names for more in IMPLIED.get(name, ())}
    versions = {name: library_version(name) for name in sorted(names | implied)}
    # Python 3.12 sums floats in another way than 3.11.
    return {"python": ".".join(platform.python_version_tuple()[:2]), **versions}


@cache
def installation() -> dict[str, str]:
    """The code and the library versions, which must be the same on all machines of a run."""
    found = {"code": code_digest(), "prefect": library_version("prefect")}
    for spec in SPECS:
        found |= library_versions(f"tasks.stages.{spec.kind}", "tensorflow")
    return found
