"""Keras's home folder: our look-ups find the user's, Keras itself finds none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import UserError

VARIABLE = "KERAS_HOME"
# A folder that can't exist, so that Keras neither reads nor writes keras.json.
NOWHERE = os.path.join(os.devnull, "keras")

# The user's value, while the variable names `NOWHERE`.
_given: str | None = None


class UserEnvironment(Mapping[str, str]):
    """The environment as it is when it is asked, with `KERAS_HOME` as the user set it.

    It copies nothing: other threads may change the environment meanwhile.
    """

    def __getitem__(self, name: str) -> str:
        value = os.environ[name]
        if name != VARIABLE or value != NOWHERE:
            return value
        if _given is None:
            raise KeyError(name)
        return _given

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in list(os.environ) if name in self])

    def __len__(self) -> int:
        return sum(1 for _name in self)


def keras_home() -> Path:
    """The folder in which Keras keeps what it downloads.

    Raises:
        UserError: it is not named, and the user has no home folder.
    """
    try:
        default = UserEnvironment().get(VARIABLE) or Path.home() / ".keras"
        return Path(default).expanduser()
    except RuntimeError:
        raise UserError(
            f"this user has no home folder for Keras's downloads; set {VARIABLE} to a folder."
        ) from None


@contextmanager
def hidden_keras_home() -> Iterator[None]:
    """While Keras is imported, let it find no home folder.

    Otherwise Keras reads keras.json there, ends with an error if that is wrong, and writes one if
    there is none. One thread at a time may call this.
    """
    global _given
    value = os.environ.get(VARIABLE)
    if value != NOWHERE:
        _given = value
    os.environ[VARIABLE] = NOWHERE
    try:
        yield
    finally:
        # Without a value of the user's, the variable stays: to remove it would disturb threads
        # that copy the environment.
        if _given is not None:
            os.environ[VARIABLE] = _given
