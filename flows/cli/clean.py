"""`fashion-flow clean`: remove results that recent runs do not use."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.cli.common_options import ARTIFACTS, StoreOption, whole_number
from flows.cli.screen import line, warn
from flows.cli.verify import size
from tasks.storage import cleaning
from tasks.storage.cleaning import Cleaning
from tasks.storage.files import explaining
from tasks.storage.store import Store


def clean(
    *,
    keep: Annotated[
        int, Parameter(converter=whole_number(0), help="How many of the latest runs to keep.")
    ] = 5,
    dry_run: Annotated[bool, Parameter(help="Only print what would be removed.")] = False,
    store: StoreOption = ARTIFACTS,
) -> None:
    """Remove unused results; print what was removed and how much space that freed."""
    opened = Store(store)
    opened.check_exists()
    if not dry_run:
        # A full disk is no reason to refuse: this makes space on it.
        opened.check_usable(space=False)
    with explaining(opened.root):
        cleaned = cleaning.clean(opened, keep, dry_run=dry_run)
    _show(opened, cleaned, dry_run=dry_run)


def _show(store: Store, cleaned: Cleaning, *, dry_run: bool) -> None:
    for item in cleaned.removed:
        line(f"{size(item.size):>9}  {item.path}: {item.reason}")
    for path in cleaned.locked:
        line(f"kept: {path} is being computed")
    for doubt in cleaned.doubts:
        warn(f"All results are kept, since it is not known which a run uses: {doubt}")
    verb = "would be removed" if dry_run else "removed"
    line(f"{store.root}: {len(cleaned.removed)} items {verb}, {size(cleaned.freed)} freed.")
