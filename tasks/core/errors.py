"""The errors that the program raises on purpose; each message is written for its reader."""

import re


def without_password(text: str) -> str:
    """A text whose addresses may be shown: `//name:password@host` becomes `//host`."""
    return re.sub(r"//[^/@\s]*@", "//", text)


class FashionFlowError(Exception):
    """Base of all errors whose message is shown to the user without a traceback."""


class UserError(FashionFlowError):
    """A mistake in what the user gave: settings, files, arguments. Exit status 2; never retried."""


class StageError(FashionFlowError):
    """A stage could not do its work though its settings were right. Exit status 1."""


class StorageError(StageError):
    """The store can't be written or read, e.g. a full disk. Retried only where waiting may help."""

    def __init__(self, message: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class NumericalError(StageError):
    """A computation left the finite numbers, e.g. a loss of NaN. Never retried."""


class UnavailableError(StageError):
    """Something that has to be fetched could not be had, e.g. a download without a network."""


class SealedError(StageError):
    """A stage asked for data that it is not allowed to see, such as the test split."""


class CriteriaError(FashionFlowError):
    """The run is done, but its final model does not meet a success criterion. Exit status 3."""
