"""Select the stages of a run to compute, and those to recompute even if they are cached."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.messages import quoted
from tasks.core.settings.base import Spec


class Enough(Exception):  # noqa: N818 - no error: there is nothing left to do
    """All selected stages have been added, so the rest of the recipe is left out."""


class StageSelection(Spec):
    """Stages by name, as `fashion-flow plan` shows them; by default all, cached where possible.

    The fields are the options `--only`, `--refresh` and `--from` of `fashion-flow run`.
    """

    only: frozenset[str] = Field(
        frozenset(),
        description="Run only these stages and the missing ones that they need; empty: all.",
    )
    refresh: frozenset[str] = Field(
        frozenset(), description="Compute these stages again, even if they are in the store."
    )
    refresh_from: frozenset[str] = Field(
        frozenset(), description="Compute these stages and all that depend on them again."
    )

    def check(self, names: Sequence[str]) -> None:
        """Refuse a name that no stage of the run has.

        Raises:
            UserError: there is such a name; the message suggests similar names.
        """
        for name in sorted(self.only | self.refresh | self.refresh_from):
            if name not in names:
                like = get_close_matches(name, names)
                hint = f"did you mean {' or '.join(like)}?" if like else "`plan` shows their names."
                raise UserError(f"no stage {quoted(name)} in this run; {hint}")

    def check_enough(self, made: Iterable[str]) -> None:
        """End the recipe early if only some stages are selected and all of these have been added.

        Raises:
            Enough: they have.
        """
        if self.only and self.only <= set(made):
            raise Enough

    def is_downstream(self, name: str, recomputed: Collection[str]) -> bool:
        """Whether a stage is in `refresh_from`, or downstream of a stage that is.

        `recomputed` names the inputs of which this is true. Stages in `refresh` do not count: they
        normally give the same result again, and if not, the keys of their dependents change.
        """
        return name in self.refresh_from or bool(recomputed)

    def recompute(self, name: str, recomputed: Collection[str]) -> str:
        """Why a stage is computed even if it is in the store; empty if there is no reason.

        `recomputed` is as in `is_downstream`.
        """
        if name in self.refresh | self.refresh_from:
            return "recomputation requested"
        return f"{min(recomputed)} is recomputed" if recomputed else ""


EVERYTHING = StageSelection()
