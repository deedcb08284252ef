"""The studio's page in a real browser: every tab from upload to download, by mouse and by keyboard alone."""

import os
import shutil
from io import BytesIO

import numpy as np
import pytest
import requests
from PIL import Image
from test_conditional import told_run
from test_phone_photos import heic
from test_studio_web import models, page, place, png, portrait, serving  # noqa: F401 (fixtures)

from faceforge.studio import output, video
from faceforge.studio.model import open_model

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (make setup brings it)")
CHROMIUM = os.environ.get("FACEFORGE_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None
)
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium here (apt-get install chromium, or FACEFORGE_CHROMIUM=PATH)"
)

SIZES = {"desktop": (1200, 850), "phone": (390, 800)}
TABS = {
    "sharpen": 1,
    "colorize": 1,
    "contours": 1,
    "edit": 0,
    "mean": 3,
    "walk": 0,
    "morph": 2,
}  # and how many photos each takes
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A visitor of the page, and what the browser complained of."""

    def __init__(self, chromium, address, size):
        self.context = chromium.new_context(
            viewport=dict(zip(("width", "height"), SIZES[size], strict=True)), permissions=["camera"]
        )
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(30_000)
        self.width, self.address, self.complaints = SIZES[size][0], address, []
        self.tab.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("request", self._asked)
        self.tab.on("filechooser", lambda chooser: None)  # from now on the browser shows none of its own
        self.tab.goto(address)
        self.find("#panel-faces figure img").first.wait_for()

    def _asked(self, request):
        if not request.url.startswith((self.address, "blob:")):
            self.complaints.append(f"asked for {request.url}")

    def find(self, selector):
        return self.tab.locator(selector)

    def open(self, name):
        self.find(f"#tab-{name}").click()
        self.find(f"#panel-{name}").wait_for()

    def said(self, name):
        """What the panel says once it has done its work."""
        says = self.find(f"#panel-{name} .says:not(.busy):not(:empty)")
        says.wait_for()
        return says.inner_text()

    def choose(self, name, paths, number=0):
        self.find(f"#panel-{name} input[type=file]").nth(number).set_input_files(paths)

    def download(self, link, folder):
        with self.tab.expect_download() as download:
            link()
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def fits(self):
        """Whether nothing sticks out to the right."""
        return Image.open(BytesIO(self.tab.screenshot(full_page=True))).width == self.width

    def go(self, *selectors):
        """Press Tab until what one of the selectors finds has the focus."""
        for _ in range(120):
            self.tab.keyboard.press("Tab")
            if any(self.find(f"{selector}:focus").count() for selector in selectors):
                return
        raise AssertionError(f"{selectors} cannot be reached by keyboard")


@pytest.fixture
def visit(chromium, page):  # noqa: F811
    visits = []

    def start(size="desktop", address=page):
        visits.append(Visit(chromium, address, size))
        return visits[-1]

    yield start
    for made in visits:
        made.context.close()
        assert made.complaints == []


@pytest.fixture
def photos(tmp_path):
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"photo-{number}.png")
        paths[-1].write_bytes(portrait(number))
    return paths


@pytest.mark.parametrize("size", ["phone", pytest.param("desktop", marks=pytest.mark.slow)])
def test_every_tab_from_upload_to_download(visit, photos, tmp_path, size):
    visitor = visit(size)
    assert {tab.get_attribute("id")[4:] for tab in visitor.find("[role=tab]").all()} == {*TABS, "faces", "gallery"}
    assert visitor.find("#panel-faces figure img").count() == 9
    for name, count in TABS.items():
        visitor.open(name)
        if name == "morph":
            for number in range(count):
                visitor.choose(name, photos[number], number)
        elif count:
            visitor.choose(name, photos[:count])
        if name == "mean":
            visitor.find("#panel-mean select[name=how]").select_option("0/latent")
        if name == "walk":
            visitor.find("#panel-walk input[name=seconds]").fill("1")
        if name != "edit":
            visitor.find(f"#panel-{name} button.main").click()
        says = visitor.said(name)
        assert "problem" not in visitor.find(f"#panel-{name} .says").get_attribute("class"), says
        assert visitor.fits()
        figure = visitor.find(f"#panel-{name} figure:has-text('Keep')").last
        path = visitor.download(figure.get_by_text("Save").click, tmp_path)
        recipe = output.read_recipe(path)
        assert recipe["synthetic"] is True
        assert recipe["run"]
        figure.get_by_text("Keep").click()
    visitor.open("gallery")
    assert visitor.find("#tab-gallery").inner_text() == f"Gallery ({len(TABS)})"
    assert visitor.find("#kept figure").count() == len(TABS)
    assert visitor.fits()
    visitor.find("#kept button.look").first.click()
    assert '"synthetic": true' in visitor.find("#large pre").inner_text()
    visitor.tab.keyboard.press("Escape")


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_random_faces_have_what_they_are_told(visit, tmp_path_factory, tmp_path, size):
    """Nothing is chosen until the box is ticked; then each slider of the chosen model counts."""
    with serving([open_model("drawn:dcgan_conventional"), open_model(told_run(tmp_path_factory))]) as address:
        visitor = visit(size, address)
        panel = visitor.find("#panel-faces")
        panel.locator("select[name=run]").select_option("1")
        assert not panel.locator("fieldset").is_visible()
        panel.locator("input[name=told]").check()
        panel.locator("input[name='label Smiling']").fill("1")
        panel.locator("input[name='label Eyeglasses']").fill("0.25")
        assert visitor.fits()
        recipes = [_generated(visitor, tmp_path / str(n)) for n in range(2)]
        assert [recipe["attributes"] for recipe in recipes] == [{"Smiling": 1.0, "Eyeglasses": 0.25}] * 2
        panel.locator("select[name=run]").select_option("0")  # which takes none
        assert "attributes" not in _generated(visitor, tmp_path / "other")
        visitor.open("walk")
        visitor.find("#panel-walk select[name=run]").select_option("1")
        visitor.find("#panel-walk select[name=attribute]").select_option("Smiling")
        visitor.find("#panel-walk button.main").click()
        assert "seconds of video" in visitor.said("walk")


def test_a_photo_that_the_browser_cannot_show_is_enlarged_all_the_same(visit, tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(heic(np.asarray(Image.open(BytesIO(portrait())))))
    visitor = visit("phone")
    visitor.open("sharpen")
    visitor.choose("sharpen", tmp_path / "IMG_1.HEIC")
    visitor.find("#panel-sharpen .chosen:has-text('IMG_1.HEIC')").wait_for()
    visitor.find("#panel-sharpen button.main").click()
    assert "pixels" in visitor.said("sharpen")
    assert visitor.find("#panel-sharpen figure img").count() == 1
    assert visitor.find("#panel-sharpen .compare").count() == 0
    assert visitor.fits()


@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_clips_go_in_and_clips_come_out(visit, tmp_path, size):
    frames = [np.roll(np.asarray(Image.open(BytesIO(portrait()))), n, axis=1) for n in range(6)]
    clip = output.save_video(frames, tmp_path / "clip.mp4", 12, output.Recipe(None, "walk", {}))
    visitor = visit(size)
    for name, button in (("sharpen", "button.main"), ("edit", "figure button:has-text('Make the video')")):
        visitor.open(name)
        visitor.choose(name, clip)
        visitor.find(f"#panel-{name} .chosen video, #panel-{name} .chosen span:has-text('clip.mp4')").first.wait_for()
        visitor.find(f"#panel-{name} {button}").click()
        visitor.find(f"#panel-{name} figure video").wait_for()
        assert visitor.fits()
        save = visitor.find(f"#panel-{name} figure:has(video) a.button")
        made = video.open_video(visitor.download(save.click, tmp_path))
        assert len(list(made.frames())) == 6
        assert made.rate == 12


def _generated(visitor, folder):
    """The recipe of the first face that is generated next."""
    folder.mkdir()
    before = visitor.find("#panel-faces figure img").first.get_attribute("src")
    visitor.find("#panel-faces button.main").click()
    visitor.find(f"#panel-faces figure:first-child img:not([src='{before}'])").wait_for()
    return output.read_recipe(visitor.download(visitor.find("#panel-faces a.button").first.click, folder))


def test_by_keyboard_alone(visit, photos, tmp_path):
    visitor = visit()
    keys = visitor.tab.keyboard
    visitor.go("#tab-faces")
    visitor.go("#panel-faces input[name=seed]")
    keys.press("ControlOrMeta+a")
    keys.type("41")
    keys.press("Enter")
    visitor.find("#panel-faces figcaption:has-text('face-41-0')").wait_for()
    visitor.go("#panel-faces a.button")
    assert output.read_recipe(visitor.download(lambda: keys.press("Enter"), tmp_path))["seed"] == 41
    visitor.go("#panel-faces button.look")
    keys.press("Enter")
    visitor.find("#large[open]").wait_for()
    keys.press("Escape")
    assert visitor.find("#large[open]").count() == 0
    visitor.find("#tab-faces").focus()
    for _ in range(4):
        keys.press("ArrowRight")
    visitor.find("#panel-edit").wait_for()
    visitor.said("edit")
    visitor.go("#panel-edit input[name=Smiling]")
    before = visitor.find("#panel-edit figure img").nth(1).get_attribute("src")
    for _ in range(10):
        keys.press("ArrowRight")
    assert visitor.find("#panel-edit label:has(input[name=Smiling]) output").inner_text() == "1"
    visitor.find(f"#panel-edit figure:nth-child(2) img:not([src='{before}'])").wait_for()
    visitor.find("#tab-edit").focus()
    for _ in range(3):
        keys.press("ArrowLeft")
    visitor.find("#panel-sharpen").wait_for()
    visitor.go("#panel-sharpen input[type=file]")
    with visitor.tab.expect_file_chooser() as chooser:
        keys.press("Enter")
    chooser.value.set_files(photos[0])
    visitor.go("#panel-sharpen button.main")
    keys.press("Enter")
    assert "pixels" in visitor.said("sharpen")


def test_lines_drawn_by_hand_become_a_face(visit):
    visitor = visit()
    visitor.open("contours")
    pad = visitor.find("canvas.pad")
    box = pad.bounding_box()
    visitor.tab.mouse.move(box["x"] + 40, box["y"] + 40)
    visitor.tab.mouse.down()
    visitor.tab.mouse.move(box["x"] + 120, box["y"] + 90, steps=5)
    visitor.tab.mouse.up()
    assert visitor.said("contours") == "A face for these lines."
    first = visitor.find("#panel-contours figure img").get_attribute("src")
    pad.focus()
    for key in (" ", *["ArrowLeft"] * 5, *["ArrowDown"] * 3, " "):
        visitor.tab.keyboard.press(key)
    visitor.find(f"#panel-contours figure img:not([src='{first}'])").wait_for()
    assert "Pen up" in visitor.find("#panel-contours span[role=status]").inner_text()


@pytest.mark.slow
def test_a_picture_is_taken_by_the_camera(visit):
    visitor = visit()
    visitor.open("sharpen")
    button = visitor.find("#panel-sharpen .drop button").first
    button.click()
    visitor.find("#panel-sharpen video").wait_for()
    visitor.tab.wait_for_timeout(500)
    button.click()
    visitor.find("#panel-sharpen .chosen img").wait_for()
    assert visitor.find("#panel-sharpen video").is_hidden()


def test_what_goes_wrong_is_told_on_the_page(visit, tmp_path):
    visitor = visit("phone")
    (tmp_path / "text.png").write_bytes(b"no picture at all")
    visitor.open("colorize")
    visitor.find("#panel-colorize button.main").click()
    assert visitor.said("colorize") == "Choose or take a photo first."
    visitor.choose("colorize", tmp_path / "text.png")
    visitor.find("#panel-colorize button.main").click()
    visitor.find("#panel-colorize .says:has-text('not an image')").wait_for()
    (tmp_path / "grey.png").write_bytes(png(np.full((90, 90, 3), 120, np.uint8)))
    visitor.choose("colorize", tmp_path / "grey.png")
    visitor.find("#panel-colorize button.main").click()
    visitor.find("#panel-colorize .says:has-text('No face was found')").wait_for()
    assert visitor.fits()
    visitor.find("#panel-colorize input[name=whole]").check()
    visitor.find("#panel-colorize button.main").click()
    visitor.find("#panel-colorize .says:has-text('what was added is a guess')").wait_for()
    # the browser itself notes each answer that is an error
    assert len(visitor.complaints) == 2
    assert all("422" in complaint for complaint in visitor.complaints)
    visitor.complaints.clear()


def test_a_page_whose_server_ended_says_so(visit, models):  # noqa: F811
    with serving(models[:1]) as address:
        visitor = visit(address=address)
        assert "drawn faces, not of people" in visitor.find("#about").inner_text()
    visitor.find("#panel-faces button.main").click()
    visitor.find("#panel-faces .says:has-text('does not answer')").wait_for()
    assert visitor.complaints
    visitor.complaints.clear()
    with pytest.raises(requests.ConnectionError):
        requests.get(address, timeout=5)
