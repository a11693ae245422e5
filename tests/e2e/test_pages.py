"""What people see in a real browser: the report, and a run in the Prefect UI."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import chromium, path_of_chromium
from tests.processes import Command, free_port, latest_run
from tests.support import on_disk

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(
    path_of_chromium() is None, reason="no chromium here (on Debian: apt-get install chromium)"
)

TELEPHONE, DESKTOP = 400, 1400
MARGIN = 38  # 1 cm at 96 dots an inch
RUN_TWICE_S = 900

# Elements that are cut off or extend beyond the page; what scrolls may be wider.
CUT_OFF = """() => {
  const overflow = e => getComputedStyle(e).overflowX;
  const scrolls = e => e && (/auto|scroll/.test(overflow(e)) || scrolls(e.parentElement));
  const hides = e => /hidden|clip/.test(overflow(e)) && e.scrollWidth > e.clientWidth + 1;
  const cut = [...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect();
    const beside = box.left < -1 || box.right > innerWidth + 1;
    return box.width && box.height && (hides(e) || (beside && !scrolls(e.parentElement)));
  }).map(e => `${e.tagName}: ${(e.textContent || e.alt || '').slice(0, 60)}`);
  return document.documentElement.scrollWidth > innerWidth ? ['the page', ...cut] : cut;
}"""
# Cells whose text overlaps the next cell.
OVERFLOWING = """() => [...document.querySelectorAll('td, th')].filter(
  e => e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
PICTURES = "() => [...document.images].map(i => [i.alt, i.naturalWidth, i.clientWidth])"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new Prefect home."""
    return tmp_path_factory.mktemp("pages") / "prefect"


@pytest.fixture(scope="module")
def ui(environment: dict[str, str], home: Path) -> Iterator[str]:
    """The address that `fashion-flow ui` prints; ended by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", "ui", "--port", str(free_port())],
        env=environment | {"PREFECT_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        found = re.fullmatch(r"Prefect UI: (\S+)\n", process.stdout.readline())
        assert found, process.poll()
        yield found[1]
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "has stopped" in said
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture(scope="module")
def smoke(
    ui: str, fashion_flow: Command, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The store of two smoke runs; all stages of the second one are cached."""
    store = tmp_path_factory.mktemp("pages") / "store"
    for _ in range(2):
        done = fashion_flow("run", "--preset", "smoke", "--store", store, PREFECT_HOME=str(home))
        assert done.status == 0, done.err
        assert ui in done.err, "the run says where the UI shows it"
    return store


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page as wide as the test's parameter."""
    context = browser.new_context(
        viewport={"width": getattr(request, "param", DESKTOP), "height": 900}
    )
    page = context.new_page()
    yield page
    context.close()


def requests_and_errors(page: Page) -> tuple[list[str], list[str]]:
    """Lists that fill with the page's requests and with the errors in its console."""
    requests: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console",
        lambda said: errors.append(said.text) if said.type in ("error", "warning") else None,
    )
    return requests, errors


def unfold(page: Page) -> None:
    page.evaluate("() => document.querySelectorAll('details').forEach(d => d.open = true)")


@pytest.mark.timeout(RUN_TWICE_S)
class TestReport:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("page", [TELEPHONE, DESKTOP], indirect=True)
    def test_nothing_is_cut_off(self, page: Page, smoke: Path, scheme: Any) -> None:
        page.emulate_media(color_scheme=scheme)
        page.goto(on_disk(latest_run(smoke).report).as_uri())
        assert page.evaluate(CUT_OFF) == []
        unfold(page)
        assert page.evaluate(CUT_OFF) == []
        assert page.evaluate(OVERFLOWING) == []

    def test_it_opens_from_a_file_and_makes_no_requests(self, page: Page, smoke: Path) -> None:
        requests, errors = requests_and_errors(page)
        address = on_disk(latest_run(smoke).report).as_uri()
        page.goto(address, wait_until="networkidle")
        assert [url for url in requests if not url.startswith("data:")] == [address]
        assert errors == []

    def test_headline_tree_tables_and_figures_are_visible(self, page: Page, smoke: Path) -> None:
        page.goto(on_disk(latest_run(smoke).report).as_uri())
        assert page.locator("h1").is_visible()
        assert page.get_by_text("SYNTHETIC DATA").first.is_visible()
        assert re.search(
            r"classifies \d+\.\d\d\s%\s+of the 200 test images", page.inner_text("header")
        )
        tree = page.get_by_alt_text(re.compile("which changes were kept"))
        assert tree.is_visible()
        rows = page.get_by_role("region", name="Scores of every model").locator("tbody tr")
        assert rows.count() == 18
        assert all(row.is_visible() for row in rows.all())
        unfold(page)
        pictures = page.evaluate(PICTURES)
        assert len(pictures) >= 25
        assert [alt for alt, natural, shown in pictures if not (alt and natural and shown)] == []

    def test_the_contents_lead_to_every_section(self, page: Page, smoke: Path) -> None:
        page.goto(on_disk(latest_run(smoke).report).as_uri())
        links = page.get_by_role("navigation").get_by_role("link")
        assert links.count() >= 10
        for link in links.all():
            target = link.get_attribute("href")
            assert target
            assert page.locator(target).is_visible()
        assert links.count() == page.locator("h2").count()

    @pytest.mark.parametrize("sideways", [False, True])
    def test_nothing_is_cut_off_in_print(self, page: Page, smoke: Path, sideways: bool) -> None:
        """Portrait A4 at 96 dots per inch, and the section in landscape."""
        page.set_viewport_size({"width": (1123 if sideways else 794) - 2 * MARGIN, "height": 700})
        page.emulate_media(media="print")
        page.goto(on_disk(latest_run(smoke).report).as_uri())
        others = "section:not(.sideways), header" if sideways else ".sideways"
        page.add_style_tag(content=f"{others} {{ display: none }}")
        assert page.evaluate(CUT_OFF) == []


@pytest.mark.timeout(RUN_TWICE_S)
class TestPrefectUI:
    def open_run(self, page: Page, ui: str, smoke: Path) -> None:
        page.goto(f"{ui}/runs/flow-run/{latest_run(smoke).read()['flow_run']}")

    def test_a_cached_run_is_shown_with_its_states(self, page: Page, ui: str, smoke: Path) -> None:
        self.open_run(page, ui, smoke)
        run = latest_run(smoke).run_id
        page.get_by_text(f"{run}, SYNTHETIC DATA, rule notebook", exact=True).first.wait_for()
        page.get_by_text("Task Runs", exact=True).click()
        page.get_by_placeholder("Search by run name").fill("overfitting")
        page.get_by_text("Cached", exact=True).first.wait_for()
        page.get_by_placeholder("Search by run name").fill("gate_9")
        page.get_by_text(re.compile("RolledForward|KeptIncumbent")).first.wait_for()

    def test_the_runs_summary_comes_first_and_shows_its_figures(
        self, page: Page, ui: str, smoke: Path
    ) -> None:
        self.open_run(page, ui, smoke)
        page.get_by_text("Artifacts", exact=True).click()
        page.get_by_text("summary", exact=True).first.click()
        page.get_by_role("heading", name="Test accuracy of the final model").wait_for()
        page.get_by_alt_text("Decision on each change").wait_for()
        page.get_by_alt_text("Test accuracy of each model").wait_for()
        assert [
            alt for alt, natural, shown in page.evaluate(PICTURES) if not (natural and shown)
        ] == []

    @pytest.mark.parametrize(
        ("key", "pictures"), [("curves-overfitting", 1), ("quality", 3), ("guard", 0)]
    )
    @pytest.mark.usefixtures("smoke")
    def test_a_stage_has_one_artifact_per_run_with_numbers_and_figures(
        self, page: Page, ui: str, key: str, pictures: int
    ) -> None:
        page.goto(f"{ui}/artifacts/key/{key}")
        created = page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$"))
        created.first.wait_for()
        assert created.count() == 2, "one for the first run, one for the cached one"
        created.first.click()
        page.get_by_text("SHA-256", exact=True).wait_for()
        shown = page.evaluate(PICTURES)
        assert len(shown) >= pictures
        assert [alt for alt, natural, width in shown if not (natural and width)] == []

    @pytest.mark.usefixtures("smoke")
    def test_the_results_are_a_table(self, page: Page, ui: str) -> None:
        page.goto(f"{ui}/artifacts/key/table-results")
        page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()
        page.get_by_text("vgg16_fine_tuned_corrected", exact=True).wait_for()
        assert page.get_by_role("row").count() == 18 + 1
