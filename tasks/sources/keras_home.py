"""Keras's home folder: our look-ups find the user's, Keras itself finds none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "KERAS_HOME"

# The user's value while it is hidden; empty while it is not.
_hidden: list[str | None] = []


def user_environment() -> Mapping[str, str]:
    """The environment with `KERAS_HOME` as the user set it, even while it is hidden."""
    found = dict(os.environ)
    given = _hidden[0] if _hidden else found.get(VARIABLE)
    return {name: value for name, value in found.items() if name != VARIABLE} | (
        {} if given is None else {VARIABLE: given}
    )


def keras_home() -> Path:
    """The folder in which Keras keeps what it downloads."""
    return Path(user_environment().get(VARIABLE) or Path.home() / ".keras").expanduser()


@contextmanager
def hidden_keras_home() -> Iterator[None]:
    """While Keras is imported, name a folder that can't exist as its home.

    Otherwise Keras reads keras.json there, ends with an error if that is wrong, and writes one if
    there is none. One thread at a time may call this.
    """
    given = os.environ.get(VARIABLE)
    _hidden.append(given)
    os.environ[VARIABLE] = os.path.join(os.devnull, "keras")
    try:
        yield
    finally:
        if given is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = given
        _hidden.clear()
