"""`fashion-flow verify`: compare the store's files with their records."""

from __future__ import annotations

from contextlib import suppress

from rich import filesize

from flows.cli.common_options import ARTIFACTS, StoreOption
from flows.cli.screen import Closed, line
from tasks.storage import verification
from tasks.storage.store import Store
from tasks.storage.verification import Verification


def verify(*, store: StoreOption = ARTIFACTS) -> int:
    """Print damaged, orphaned and unfinished files; return 1 if a file is damaged, else 0."""
    opened = Store(store)
    opened.check_exists()
    found = verification.verify(opened)
    with suppress(Closed):
        _show(opened, found)
    return 1 if found.damaged else 0


def _show(store: Store, found: Verification) -> None:
    for title, findings in (
        ("damaged", found.damaged),
        ("orphan", found.orphans),
        ("unfinished", found.unfinished),
    ):
        for item in findings:
            line(f"{title:<11} {size(item.size):>9}  {item.path}: {item.reason}")
    line(
        f"{store.root}: {found.records} results with {found.files} files ({size(found.size)}) "
        f"are intact; {len(found.damaged)} damaged, {len(found.orphans)} orphans, "
        f"{len(found.unfinished)} unfinished."
    )
    if found.damaged:
        line("Damaged results are never used: the next run that needs them computes them again.")
    if found.orphans:
        line("`fashion-flow clean` removes orphans.")


def size(count: int) -> str:
    """A number of bytes in readable units, e.g. `1.2 MB`."""
    return str(filesize.decimal(count))
