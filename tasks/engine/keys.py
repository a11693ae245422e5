"""Cache keys: everything that a stage's result depends on, checked again before it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.core.arithmetic import Arithmetic
from tasks.core.errors import StageError
from tasks.core.messages import listed
from tasks.core.own_code import OWN_CODE
from tasks.core.records import FORMAT_VERSION, Outcome, Stage, digest_of
from tasks.engine.fingerprint import code_of, refuse_edits
from tasks.engine.lettering import fonts_entry, refuse_other_fonts
from tasks.engine.libraries import library_version, library_versions
from tasks.engine.profile import profile_of
from tasks.storage.files import file_digest


def key_of(
    stage: Stage, inputs: Mapping[str, Outcome], profile: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The key of a stage with these inputs, and its basis: the values that it is the digest of."""
    basis = basis_of(stage, inputs, profile)
    return digest_of(basis), basis


def basis_of(
    stage: Stage, inputs: Mapping[str, Outcome], profile: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that the key of a stage covers; inputs that are not known yet are left out."""
    module = f"tasks.stages.{stage.kind}"
    network = stage.spec.arithmetic is Arithmetic.NETWORK
    own = stage.own_code
    return {
        "format": FORMAT_VERSION,
        "stage": stage.name,
        "settings": stage.spec.as_json(),
        # An input whose files are not read cannot affect the result.
        "inputs": {
            role: inputs[role].digest(files)
            for role, files in stage.reads.items()
            if files and role in inputs
        },
        # The content of an external file matters, its path does not.
        "external": _digests(stage.external),
        "code": code_of(module),
        "libraries": library_versions(module, profile.get("backend") if network else None)
        | {name: library_version(name) for name in (own.libraries if own else ())},
        "profile": profile_of(stage.spec.arithmetic, profile),
        **fonts_entry(stage, inputs),
        **({OWN_CODE: dict(own.digests)} if own else {}),
    }


def refuse_changes(stage: Stage, basis: Mapping[str, Any]) -> None:
    """Refuse a result if its key no longer describes the code, the fonts and the external files.

    Raises:
        StageError: code, a font or an external file changed while the stage was computed.
    """
    refuse_edits(stage.name, basis["code"])
    refuse_other_fonts(stage.name, basis)
    try:
        external = _digests(stage.external)
    except OSError:
        external = []
    if external != basis["external"]:
        raise StageError(
            f"{listed(stage.external)} changed while {stage.name} read it, so the result "
            "is not stored; start the run again."
        )


def _digests(paths: Sequence[str]) -> list[str]:
    return [file_digest(Path(path))[0] for path in paths]
