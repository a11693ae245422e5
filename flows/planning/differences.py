"""Explain why a key changed by comparing everything that goes into it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tasks.core.own_code import ITSELF, OWN_CODE
from tasks.core.records import Record, canonical_json
from tasks.engine.profile import profile_changes

UNSET = "unset"
NO_FONT = "none"
LONGEST_VALUE = 40


def closest(
    records: Iterable[Record], basis: Mapping[str, Any], producers: Mapping[str, str]
) -> tuple[Record | None, list[str]]:
    """The record with the fewest differences from `basis`, and these differences.

    Args:
        records: a stage's records.
        basis: what goes into the stage's key now; inputs that are not known yet are left out.
        producers: by role, the stages that the inputs come from.
    """
    compared = [(record, changes(record.basis, basis, producers)) for record in records]
    return min(compared, key=lambda pair: len(pair[1]), default=(None, []))


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], producers: Mapping[str, str]
) -> list[str]:
    """A phrase for each difference between two keys' bases; `producers` as in `closest`."""
    inputs = [role for role in now["inputs"] if now["inputs"][role] != before["inputs"].get(role)]
    external = before["external"] != now["external"]
    return [
        *_values({"store format": before["format"]}, {"store format": now["format"]}),
        *_settings(flat(before["settings"]), flat(now["settings"])),
        *(f"{producers[role]} changed" for role in inputs),
        *(["an external file changed"] if external else []),
        *(f"code of {name} {how}" for name, how in _modules(before["code"], now["code"])),
        *_own_code(before, now),
        *_machine(before, now),
        *(_fonts(before, now) if now["inputs"].keys() >= before["inputs"].keys() else ()),
    ]


def _own_code(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How the code of a user's own network differs."""
    found = [basis.get(OWN_CODE, {}) for basis in (before, now)]
    if not all(found):
        # Another family, which the settings say.
        return []
    return [
        f"your code of {name if name != ITSELF else 'the function'} {how}"
        for name, how in _modules(*found)
    ]


def _machine(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences in the libraries and the execution profile."""
    if "libraries" not in before:
        return ["recorded by an earlier version of the program"]
    libraries = _values(before["libraries"], now["libraries"])
    return libraries + profile_changes(before["profile"], now["profile"])


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested settings, by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Differences in settings; a digest says nothing to people."""
    digest = "own.content"
    changed = before.get(digest, UNSET) != now.get(digest, UNSET)
    values = [
        {name: value for name, value in all_.items() if name != digest} for all_ in (before, now)
    ]
    return [*_values(*values), *(["the data set changed"] if changed else [])]


def _values(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted({*before, *now})
    return [
        f"{name} {_shown(before, name)} \u2192 {_shown(now, name)}"
        for name in names
        # As text, since 1, 1.0 and true are equal in Python but not in a key.
        if canonical_json(before.get(name, UNSET)) != canonical_json(now.get(name, UNSET))
    ]


def _fonts(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How the fonts of figures differ; names in Latin and other common scripts need none."""
    earlier, later = before.get("fonts", {}), now.get("fonts", {})
    found = []
    for kind in sorted({*earlier, *later}):
        old, new = earlier.get(kind, {}), later.get(kind, {})
        if old == new:
            continue
        if old.keys() == new.keys():
            changed = [name for name in new if new[name] != old[name]]
            found.append(f"font {', '.join(changed)} has another digest")
        else:
            found.append(f"font {', '.join(new) or NO_FONT} instead of {', '.join(old) or NO_FONT}")
    if not found and before.get("in_no_font") != now.get("in_no_font"):
        found.append("other characters of names are in no font")
    return list(dict.fromkeys(found))


def _shown(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name, UNSET)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _modules(before: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str]]:
    def fate(name: str) -> str:
        if name in before and name in now:
            return "changed"
        return "was added" if name in now else "was removed"

    return [
        (name, fate(name)) for name in sorted({*before, *now}) if before.get(name) != now.get(name)
    ]
