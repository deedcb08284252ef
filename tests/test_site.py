"""The site that `make docs` builds, opened from the disk in a real browser: nothing is missing, nothing sticks out."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make setup brings it)")
CHROMIUM = os.environ.get("FACEFORGE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here (apt-get install chromium, or FACEFORGE_CHROMIUM=PATH)"),
]
BROKEN = "[...document.images].filter(image => image.complete && !image.naturalWidth).map(image => image.src)"
SIZES = {"desktop": (1200, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """A tab of a size and a scheme, and what the browser complains of or asks for elsewhere."""
    opened = []

    def start(size, scheme):
        width, height = SIZES[size]
        opened.append(chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        tab, complaints = opened[-1].new_page(), []
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        return tab, complaints

    yield start
    for context in opened:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_opens_from_the_disk(site, visit, size, scheme):
    tab, complaints = visit(size, scheme)
    pages = sorted(page for page in site.rglob("*.html") if page.name != "404.html")  # which a server shows
    assert len(pages) > 40
    for page in pages:
        tab.goto(page.as_uri())
        tab.wait_for_load_state("load")
        assert tab.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], page.name
        assert tab.evaluate(BROKEN) == [], page.name
        shown = tab.evaluate("document.body.getAttribute('data-md-color-scheme')")
        assert shown == {"light": "default", "dark": "slate"}[scheme], page.name
    assert complaints == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", ["video.html", "tutorials/01_first_face.html"])
def test_pages_on_the_disk_can_be_searched(site, visit, size, page):
    tab, complaints = visit(size, "light")
    tab.goto((site / page).as_uri())
    if size == "phone":
        tab.locator("label.md-header__button[for=__search]").click()
    tab.locator("input.md-search__input").press_sequentially("requeue")
    tab.locator(".md-search-result__item a").first.click()
    tab.wait_for_url("**/*?h=*")
    assert complaints == []
