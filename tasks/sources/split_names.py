"""What people call the splits of a data set."""

from __future__ import annotations

import re

SYNONYMS = {
    "train": ("train", "training", "trn", "trainset"),
    "validation": ("validation", "valid", "val", "dev", "validate", "valset"),
    "test": ("test", "testing", "tst", "eval", "evaluation", "holdout", "testset"),
}
EXPECTED = "train (or training, trn), validation (valid, val, dev) or test (testing, tst, eval)"

_SPLITS = {name: split for split, names in SYNONYMS.items() for name in names}
# Words that say nothing: `training_set`, `test-images`, `val2017`.
_EMPTY_WORDS = frozenset(
    ("set", "data", "dataset", "images", "image", "imgs", "photos", "pictures")
)


def split_of(name: str) -> str | None:
    """The split that a name means as a whole, in any case: `Training_Set` is `train`."""
    words = _words(name) - _EMPTY_WORDS
    return _SPLITS.get(words.pop()) if len(words) == 1 else None


def split_in(name: str) -> str | None:
    """The split of which a name speaks: `train-00000-of-00002` is `train`; None if of several."""
    found = {_SPLITS[word] for word in _words(name) if word in _SPLITS}
    return found.pop() if len(found) == 1 else None


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[\W\d_]+", name.casefold()) if word}
