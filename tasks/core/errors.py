"""The program's own errors, with messages written for the user."""

import re

from tasks.core.messages import brief

# Passwords may contain `@`, `/` and `?`, which should have been written as %40 and the like.
CREDENTIALS = re.compile(
    r"""(?<=//)[^\s/]*@(?:(?:(?!://)[^\s?])*@)?
    # What follows the colon is no port, so a password begins there.
    | (?<=//)[^\s/:@[]*:(?!\d*(?:[/?\#\s]|$))(?:(?!://)\S)*@
    # An address without a scheme.
    | (?<![^\s'"=(,;])[^\s/:@'"=(,;]+:(?!//)\S*@""",
    re.VERBOSE,
)


def without_password(text: str) -> str:
    """Remove credentials from the addresses in a text: `//name:password@host` -> `//host`."""
    return CREDENTIALS.sub("", text)


class FashionFlowError(Exception):
    """Base of all errors whose message is shown to the user without a traceback.

    As text, it is short enough for a terminal; `whole` is all of it, for logs.
    """

    def __str__(self) -> str:
        return brief(self.whole)

    @property
    def whole(self) -> str:
        """The message as it was raised, of any length."""
        return super().__str__()


def whole(error: BaseException) -> str:
    """All of an error's message, for logs."""
    return error.whole if isinstance(error, FashionFlowError) else str(error)


class UserError(FashionFlowError):
    """A mistake in the user's settings, files or arguments. Exit status 2; never retried."""


class StageError(FashionFlowError):
    """A stage failed for a reason other than a user's mistake. Exit status 1."""


class StorageError(StageError):
    """The store cannot be read or written, e.g. the disk is full. Retried only if `transient`."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class NumericalError(StageError):
    """A computation produced a non-finite number, e.g. a loss of NaN. Never retried."""


class UnavailableError(StageError):
    """Data could not be fetched, e.g. a download failed without a network connection."""


class SealedError(StageError):
    """A stage asked for data that it may not read, such as the test split."""


class CriteriaError(FashionFlowError):
    """The run finished, but its final model misses a success criterion. Exit status 3."""
