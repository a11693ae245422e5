"""Texts that fit on a terminal: lists cut with a count, values and messages cut in the middle.

They enter no result, so this module is left out of the fingerprints of code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from unicodedata import east_asian_width

# What a message may take on a terminal of `COLUMNS` columns.
LONGEST, MOST_LINES, COLUMNS = 400, 6, 80
CUT = "[...]"
# Paths are only cut if they are longer than this.
LONGEST_WORD = 200
LONGEST_ITEM = 40


def listed(items: Collection[object], room: int = 120, *, separator: str = ", ") -> str:
    """The items that fit into `room` characters, at least one, and how many more there are."""
    names = [shortened(str(item), min(room, max(LONGEST_ITEM, room // 2))) for item in items]
    if len(separator.join(names)) <= room:
        return separator.join(names)
    used, shown = 0, 0
    for name in names:
        used += len(name) + len(separator)
        if shown and used - len(separator) > room:
            break
        shown += 1
    return f"{separator.join(names[:shown])} and {len(names) - shown:,} more"


def quoted(value: object, room: int = 60) -> str:
    """A value that a user gave, as Python writes it, cut after `room` characters."""
    return shortened(repr(value), room)


def classes_listed(indices: Iterable[int], names: Sequence[str]) -> str:
    """Classes by name with their numbers: `class 'Shirt' (6), 'Bag' (8) and 3 more`.

    Classes without a name of their own are called by their numbers: `class 2, 5`.
    """
    numbers = [int(index) for index in indices]
    own = [
        str(number) if names[number] == f"class {number}" else f"{names[number]!r} ({number})"
        for number in numbers
    ]
    return f"class {listed(own)}"


def first_line(error: BaseException, room: int = 120) -> str:
    """The first line of an error's message, without its full stop, or the name of its type.

    For an error of the operating system, only its reason: the message names the file already.
    """
    text = (error.strerror if isinstance(error, OSError) else "") or str(error)
    lines = text.strip().splitlines() or [type(error).__name__]
    return shortened(lines[0].rstrip("."), room)


def shortened(text: str, room: int) -> str:
    """The text, with dots in place of its middle if it is longer than `room` characters."""
    if len(text) <= room:
        return text
    end = (room - 3) // 3
    return f"{text[: room - 3 - end]}...{text[len(text) - end :]}"


def brief(
    text: str, *, taken: int = 0, end: str = "", columns: int = COLUMNS, lines: int = 0
) -> str:
    """The text if it has at most 400 characters on six lines; else its begin and its end.

    The begin says what is wrong, the end what to do. Words are kept whole if they are shorter than
    half of the limit.

    Args:
        text: the message.
        taken: how many cells of the first line are in use.
        end: follows a text that was cut, e.g. where to read all of it.
        columns: the width of the terminal.
        lines: the number of lines, if not six.
    """
    most = lines or MOST_LINES
    room = LONGEST - taken
    if len(text) <= room and _lines(text, columns, taken) <= most:
        return text
    words = [shortened(word, LONGEST_WORD) for word in text.split()]
    for smaller in range(room - len(end), 0, -10):
        made = _cut(words, smaller) + end
        if _lines(made, columns, taken) <= most:
            break
    return made


def _cut(words: Sequence[str], room: int) -> str:
    """The first and the last words, in at most `room` characters."""
    if len(" ".join(words)) <= room:
        return " ".join(words)
    last = _fitting(reversed(words), room * 2 // 5)[::-1]
    left = room - len(" ".join([CUT, *last])) - 1
    first = _fitting(words[: len(words) - len(last)], left)
    if not first:
        first = [shortened(words[0], max(left, 4))]
    return " ".join([*first, CUT, *last])


def _fitting(words: Iterable[str], room: int) -> list[str]:
    """The first of the words that fit into `room` characters."""
    found: list[str] = []
    for word in words:
        room -= len(word) + 1
        if room < -1:
            break
        found.append(word)
    return found


def _lines(text: str, columns: int, taken: int) -> int:
    """How many lines of a terminal the text takes if it wraps between words, as far as possible."""
    count, used = 1, taken
    for number, line in enumerate(text.split("\n")):
        if number:
            count, used = count + 1, 0
        for word in line.split(" "):
            cells = [2 if east_asian_width(sign) in "WF" else 1 for sign in word]
            if used + sum(cells) > columns and used:
                count, used = count + 1, 0
            for width in cells:
                if used + width > columns:
                    count, used = count + 1, 0
                used += width
            used += 1
    return count
