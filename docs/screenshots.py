"""Take the pictures in this folder: a run in a terminal, in the Prefect UI, and its report.

    make screenshots ARGS="OPTIONS OF fashion-flow run"
    make screenshots ARGS="--own FOLDER"

The run uses a temporary store and a temporary Prefect server. Without options it replays the
notebook's decisions on Fashion-MNIST, without VGG16. `--own` takes only the picture of the report
of a run on photographs.
"""

from __future__ import annotations

import html
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyte
from PIL import Image
from playwright.sync_api import Browser
from pyte.screens import Char

from tests.browser import chromium
from tests.processes import free_port, latest_run
from tests.support import on_disk
from tests.terminal import on_terminal

DOCS = Path(__file__).parent
NOTEBOOK_OPTIONS = ("--dataset", "fashion-mnist", "--rule", "notebook", "--transfer-weights", "off")
COLUMNS, ROWS = 100, 42
RUN_S = 7200
WIDTH, HEIGHT = 1400, 900
REPORT_HEIGHT = 1600
PHONE_WIDTH = 400
LOADING_MS = 4000
COLOURS = 64
# A training that is halfway done, after some gates have decided.
MOMENT = re.compile(r"iteration_8 +.*epoch (\d+)/(\d+)")

PALETTE = {
    "black": "#24292f", "red": "#ff8182", "green": "#4ac26b", "brown": "#d4a72c",
    "blue": "#54aeff", "magenta": "#c297ff", "cyan": "#39c5cf", "white": "#d0d7de",
    "brightblack": "#8c959f", "default": "#d0d7de",
}  # fmt: skip
STYLE = """
body { margin: 0; background: #0d1117; display: inline-block; }
pre { margin: 0; padding: 18px 22px; font: 14px/1.25 "DejaVu Sans Mono"; color: #d0d7de; }
"""


def own_images(folder: str) -> None:
    """Run the flow on photographs, and take the picture of its report."""
    with tempfile.TemporaryDirectory() as store, chromium() as browser:
        options = ("--dataset", folder, "--transfer-weights", "off", "--store", store)
        subprocess.run([sys.executable, "-m", "flows", "run", *options], check=True)
        page = browser.new_page(viewport={"width": WIDTH, "height": REPORT_HEIGHT})
        page.goto(on_disk(latest_run(Path(store)).report).as_uri())
        _save(page.screenshot(), "own-images")


def main(options: list[str]) -> None:
    """Run the flow, and take the pictures meanwhile and afterwards."""
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        store = folder / "artifacts"
        environment = os.environ | {
            "PREFECT_HOME": str(folder / "prefect"),
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        with serving(environment) as address:
            _terminal(browser, ["run", *options, "--store", "artifacts"], folder, environment)
            _ui(browser, address, latest_run(store).read()["flow_run"])
        _report(browser, on_disk(latest_run(store).report))


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[str]:
    """Run `fashion-flow ui` as in another terminal; yield its address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "ui", "--port", str(port)],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        print(process.stdout.readline() if process.stdout else "", end="")  # waits until it is up
        yield address
    finally:
        process.terminate()
        process.wait()


def _terminal(
    browser: Browser, arguments: list[str], folder: Path, environment: dict[str, str]
) -> None:
    taken = False

    def watch(screen: pyte.Screen) -> str:
        nonlocal taken
        found = MOMENT.search("\n".join(screen.display))
        if not taken and found and 2 * int(found[1]) >= int(found[2]):
            taken = True
            _save(_screen_shot(browser, screen), "terminal")
        return ""

    done = on_terminal(
        arguments, folder, environment, columns=COLUMNS, rows=ROWS, seconds=RUN_S, watch=watch
    )
    if done.status:
        sys.exit(f"the run failed:\n{done.written}")
    _save(_screen_shot(browser, done.screen), "terminal-end")


def _screen_shot(browser: Browser, screen: pyte.Screen) -> bytes:
    page = browser.new_page()
    written = max(row for row in range(screen.lines) if screen.display[row].strip())
    lines = (_line(screen.buffer[row], screen.columns) for row in range(written + 1))
    page.set_content(f"<style>{STYLE}</style><pre>{chr(10).join(lines)}</pre>")
    picture = page.locator("body").screenshot()
    page.close()
    return picture


def _line(cells: Mapping[int, Char], columns: int) -> str:
    return "".join(_cell(cells[column]) for column in range(columns))


def _cell(cell: Char) -> str:
    colour = PALETTE.get(cell.fg, f"#{cell.fg}")
    weight = "bold" if cell.bold else "normal"
    return f'<span style="color:{colour};font-weight:{weight}">{html.escape(cell.data)}</span>'


def _ui(browser: Browser, address: str, flow_run: str) -> None:
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(f"{address}/runs/flow-run/{flow_run}")
    page.get_by_text("Task Runs", exact=True).click()
    page.wait_for_timeout(LOADING_MS)
    _save(page.screenshot(), "prefect-ui")
    page.get_by_text("Artifacts", exact=True).click()
    page.get_by_text("summary", exact=True).first.click()
    page.wait_for_timeout(LOADING_MS)
    _save(page.screenshot(), "prefect-ui-summary")
    page.close()


def _report(browser: Browser, report: Path) -> None:
    for name, width, height in (
        ("report", WIDTH, REPORT_HEIGHT),
        ("report-telephone", PHONE_WIDTH, HEIGHT),
    ):
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(report.as_uri())
        _save(page.screenshot(), name)
        page.close()


def _save(picture: bytes, name: str) -> None:
    """Save a picture as a PNG with few colours, which makes it a third as large."""
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(COLOURS)
    image.save(DOCS / f"{name}.png", optimize=True)
    print(f"docs/{name}.png")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--own"]:
        own_images(sys.argv[2])
    else:
        main(sys.argv[1:] or list(NOTEBOOK_OPTIONS))
