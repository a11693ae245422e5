"""Which stages of a run to carry out, and which of them to compute again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.settings.base import Spec


class Enough(Exception):  # noqa: N818 - no error: there is nothing left to do
    """All selected stages have been made, so the rest of the recipe is not carried out."""


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
            UserError: there is such a name; the message suggests similar ones.
        """
        for name in sorted(self.only | self.refresh | self.refresh_from):
            if name not in names:
                like = get_close_matches(name, names)
                hint = f"did you mean {' or '.join(like)}?" if like else "`plan` shows their names."
                raise UserError(f"no stage {name!r} in this run; {hint}")

    def check_enough(self, made: Iterable[str]) -> None:
        """End the recipe if only some stages are selected and all of them have been made.

        Raises:
            Enough: the recipe is to end.
        """
        if self.only and self.only <= set(made):
            raise Enough

    def follows(self, name: str, followed: Collection[str]) -> bool:
        """Whether a stage is in `refresh_from` or depends on such a stage.

        `followed` names its inputs that do. A stage in `refresh` does not count: its result is
        normally the same again, and if it is not, the keys of its dependents change by themselves.
        """
        return name in self.refresh_from or bool(followed)

    def anew(self, name: str, followed: Collection[str]) -> str:
        """Why a stage is computed even if it is in the store; empty if it is not."""
        if name in self.refresh | self.refresh_from:
            return "recomputation requested"
        return f"{min(followed)} is recomputed" if followed else ""


EVERYTHING = StageSelection()
