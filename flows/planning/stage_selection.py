"""Which stages of a run are done, and which of them anew."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

from pydantic import Field

from tasks.core.errors import UserError
from tasks.core.settings.base import Spec


class Enough(Exception):  # noqa: N818 - no error: there is nothing left to do
    """All that was chosen has been made, so the rest of the recipe is not carried out."""


class Choice(Spec):
    """Stages by name, as `fashion-flow plan` shows them; by default all, from the store if there.

    The fields are the options `--only`, `--refresh` and `--from` of `fashion-flow run`.
    """

    only: frozenset[str] = Field(
        frozenset(),
        description="These stages and what they need that is not in the store; nothing else.",
    )
    refresh: frozenset[str] = Field(
        frozenset(), description="These stages anew, though they may be in the store."
    )
    refresh_from: frozenset[str] = Field(
        frozenset(), description="These stages and all that depend on them anew."
    )

    def check(self, names: Sequence[str]) -> None:
        """Refuse a name that no stage of the run has.

        Raises:
            UserError: there is one; the message names what is like it.
        """
        for name in sorted(self.only | self.refresh | self.refresh_from):
            if name not in names:
                like = get_close_matches(name, names)
                hint = f"did you mean {' or '.join(like)}?" if like else "`plan` shows their names."
                raise UserError(f"no stage {name!r} in this run; {hint}")

    def check_enough(self, made: Iterable[str]) -> None:
        """Say when only some stages are chosen, and all of them are among those made so far.

        Raises:
            Enough: that is so.
        """
        if self.only and self.only <= set(made):
            raise Enough

    def follows(self, name: str, followed: Collection[str]) -> bool:
        """Whether a stage is in `refresh_from` or depends on one; `followed` are inputs that do.

        A stage that is only in `refresh` leads to nothing: its result is the same again, and if it
        is not, then the keys of what depends on it are not either.
        """
        return name in self.refresh_from or bool(followed)

    def anew(self, name: str, followed: Collection[str]) -> str:
        """Why a stage is computed though it may be in the store; empty where it is not."""
        if name in self.refresh | self.refresh_from:
            return "asked for anew"
        return f"{min(followed)} is made anew" if followed else ""


EVERYTHING = Choice()
