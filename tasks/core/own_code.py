"""The code of a user's own network as a value that stages carry to wherever they are computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

# The entry of a key's basis with the digests.
OWN_CODE = "own_code"
# The place of the function's own module among the digests: the name of its file does not count.
ITSELF = ""


@dataclass(frozen=True)
class OwnCode:
    """A function that builds networks, with the modules beside it that it imports.

    Attributes:
        function: the function's name.
        module: the name of its module.
        sources: the text of that module and of each local one that it imports, by name.
        files: the file of each module, relative to their common folder, for messages.
        packages: the modules that are packages.
        digests: by module, the SHA-256 of the syntax tree without comments and docstrings;
            `ITSELF` stands for the module of the function.
        libraries: the other packages that the modules import.
    """

    function: str
    module: str
    sources: Mapping[str, str]
    files: Mapping[str, str]
    packages: frozenset[str]
    digests: Mapping[str, str]
    libraries: tuple[str, ...]


def short_digest(digests: Mapping[str, str]) -> str:
    """The first digits of one digest of all modules, to be shown."""
    text = json.dumps(dict(digests), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
