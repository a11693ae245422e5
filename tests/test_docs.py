"""Documentation that stays true: links and anchors resolve, files that pages name exist."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README_LINES = 150
GUIDE = "docs/architecture.md"
# Tells of files as they were.
HISTORY = "CHANGELOG.md"

FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*([^()\s]+(?:\([^()]*\))?)\s*\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
NAMED_ANCHOR = re.compile(r'<a id="([^"]+)">')
FILE = re.compile(r"(?:flows|tasks|tests|docs|benchmarks)/[\w./-]*")
BARE_FILE = re.compile(r"[\w.-]+\.(?:py|j2)")


@cache
def tracked() -> frozenset[str]:
    """Every file of the repository, by its path from the root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return frozenset(filter(None, listed.stdout.split("\0")))


PAGES = sorted(name for name in tracked() if name.endswith(".md"))
MODULES = sorted(
    name
    for name in tracked()
    if re.match(r"(flows|tasks)/.*\.py$", name) and not name.endswith("__init__.py")
)


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def prose(page: str) -> str:
    return FENCE.sub("", text(page))


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")


@cache
def anchors(page: str) -> frozenset[str]:
    found: dict[str, int] = {}
    names = set(NAMED_ANCHOR.findall(prose(page)))
    for heading in HEADING.findall(prose(page)):
        name = anchor(heading)
        count = found[name] = found.get(name, -1) + 1
        names.add(f"{name}-{count}" if count else name)
    return frozenset(names)


def links(page: str) -> list[str]:
    return LINK.findall(CODE.sub("code", prose(page)))


def fault(page: str, link: str) -> str:
    """What is wrong with a link of a page; empty if nothing is, or it leads elsewhere."""
    if "://" in link or link.startswith("mailto:"):
        return ""
    path, _, fragment = link.partition("#")
    target = (ROOT / page).parent.joinpath(path).resolve() if path else ROOT / page
    if not target.is_relative_to(ROOT):
        return f"{link} leads out of the repository"
    name = target.relative_to(ROOT).as_posix()
    if name not in tracked() and not target.is_dir():
        return f"{link}: there is no file {name}"
    if fragment and fragment not in anchors(name):
        return f"{link}: {name} has no anchor {fragment}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_resolve(page: str) -> None:
    assert [found for link in links(page) if (found := fault(page, link))] == []


def test_a_broken_link_is_found() -> None:
    assert (
        fault("README.md", "docs/nowhere.md") == "docs/nowhere.md: there is no file docs/nowhere.md"
    )
    assert "has no anchor" in fault("README.md", "docs/usage.md#nowhere")
    assert "leads out" in fault("docs/usage.md", "../../README.md")
    assert fault("docs/usage.md", "plans.md#single-settings") == ""


def stray_rows(page_text: str) -> list[str]:
    """Rows of tables that are shown as text: their paragraph does not begin with a header."""
    paragraphs = re.split(r"\n\s*\n", FENCE.sub("", page_text))
    tables = [found.strip().splitlines() for found in paragraphs if found.lstrip().startswith("|")]
    return [
        rows[0] for rows in tables if len(rows) < 2 or not re.fullmatch(r"\s*[|:\- ]+", rows[1])
    ]


@pytest.mark.parametrize("page", PAGES)
def test_tables_have_headers(page: str) -> None:
    assert stray_rows(text(page)) == []


def test_a_table_with_an_empty_line_in_it_is_found() -> None:
    table = "text\n\n| a | b |\n| --- | ---: |\n| 1 | 2 |\n"
    assert stray_rows(table) == []
    assert stray_rows(f"{table}\n| 3 | 4 |\n| 5 | 6 |\n") == ["| 3 | 4 |"]
    assert stray_rows(f"```\n{table}\n| 3 | 4 |\n```\n") == []


def test_anchors_are_those_of_github() -> None:
    assert anchor("8. `auto` is the command line's, not the flow's") == (
        "8-auto-is-the-command-lines-not-the-flows"
    )
    assert anchor("Where is ...?") == "where-is-"


def test_readme_is_short() -> None:
    assert len(text("README.md").splitlines()) <= README_LINES


def named_files(page: str) -> set[str]:
    """Paths that a page names as code, such as `tasks/engine/keys.py` or `docs/`."""
    return {code for code in CODE.findall(prose(page)) if FILE.fullmatch(code)}


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY])
def test_files_that_a_page_names_exist(page: str) -> None:
    missing = {
        name for name in named_files(page) if name not in tracked() and not (ROOT / name).is_dir()
    }
    assert missing == set()


def test_modules_that_the_guide_names_without_their_package_exist() -> None:
    known = {name.rpartition("/")[2] for name in tracked()}
    named = {code for code in CODE.findall(prose(GUIDE)) if BARE_FILE.fullmatch(code)}
    assert named - known == set()


def test_the_guide_names_every_module_or_its_package() -> None:
    named = named_files(GUIDE)
    packages = {name for name in named if name.endswith("/") and name.count("/") > 2}
    missing = [
        module
        for module in MODULES
        if module not in named and not module.startswith(tuple(sorted(packages)))
    ]
    assert missing == []


@pytest.mark.parametrize("package", ["flows", "tasks", "tasks/core"])
def test_a_package_with_a_page_lists_all_that_is_in_it(package: str) -> None:
    inside = {
        name.removeprefix(f"{package}/").partition("/")[0]
        for name in tracked()
        if name.startswith(f"{package}/") and name.removeprefix(f"{package}/").count("/") == 1
    }
    listed = {code.rstrip("/") for code in CODE.findall(text(f"{package}/README.md"))}
    assert inside - listed == set()
