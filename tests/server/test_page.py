"""The page in a real Chromium: what a person does with it, by mouse, keyboard and finger."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derain.server.settings import Settings

pytest.importorskip("fastapi", reason="the server's extra is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: axe.min.js of the npm package axe-core, which is not ours to ship: `npm pack axe-core`, and say where it is.
_AXE = os.environ.get("DERAIN_AXE")

pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="no chromium here; apt-get install chromium")


@pytest.fixture(scope="module")
def address(small_weight):
    import uvicorn

    from derain.server.app import create_app

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = Settings(model=str(small_weight), token="open sesame")
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=port, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, token given, that must stay without script errors and foreign requests."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(30_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda told: faults.append(told.text) if "Security Policy" in told.text else None)
    page.on("request", lambda asked: None if asked.url.startswith((address, "blob:")) else faults.append(asked.url))
    page.add_init_script("sessionStorage.setItem('token', 'open sesame')")
    page.goto(address)
    yield page
    context.close()
    assert faults == []


@pytest.fixture(scope="module")
def files(photo, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(photo).save(folder / "wet.png")
    Image.fromarray(photo[:100, :90]).save(folder / "tall.jpg")
    Image.fromarray(photo[:90, :100]).save(folder / "scan.tif")
    (folder / "notes.txt").write_text("no picture")
    (folder / "half.png").write_bytes((folder / "wet.png").read_bytes()[:9000])
    return {path.name: path for path in folder.iterdir()}


def divider(page) -> float:
    """Where the divider stands, as a share of the picture's width."""
    sheet = page.locator("#stage .sheet").bounding_box()
    line = page.locator("#stage .divider").bounding_box()
    return (line["x"] + line["width"] / 2 - sheet["x"]) / sheet["width"]


def pixels(page, place: tuple[float, float]) -> np.ndarray:
    """What the screen shows at a place of the picture, given as shares: mean color of a small square."""
    sheet = page.locator("#stage .sheet").bounding_box()
    x, y = sheet["x"] + place[0] * sheet["width"], sheet["y"] + place[1] * sheet["height"]
    shot = page.screenshot(clip={"x": x - 4, "y": y - 4, "width": 8, "height": 8})
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).mean(axis=(0, 1))


def test_upload_result_slider_download(page, files, address):
    page.set_input_files("#files", files["wet.png"])
    page.wait_for_selector("li.done")
    assert page.locator("#told").text_content() == "wet.png is dry"
    assert divider(page) == pytest.approx(0.5, abs=0.01)
    before = pixels(page, (0.4, 0.3))

    sheet = page.locator("#stage .sheet").bounding_box()
    page.mouse.move(sheet["x"] + sheet["width"] / 2, sheet["y"] + 40)
    page.mouse.down()
    page.mouse.move(sheet["x"] + sheet["width"] / 4, sheet["y"] + 60, steps=4)
    page.mouse.up()
    assert divider(page) == pytest.approx(0.25, abs=0.01)
    assert np.abs(pixels(page, (0.4, 0.3)) - before).max() > 3  # the result shows where the input was

    page.locator("#stage .split").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert divider(page) == pytest.approx(0.30, abs=0.01)
    page.keyboard.press("Home")
    assert divider(page) == pytest.approx(0, abs=0.01)

    with page.expect_download() as saved:
        page.click("#one")
    assert saved.value.suggested_filename == "wet_derained.png"
    assert Path(saved.value.path()).read_bytes() == posted(page, files["wet.png"])


def posted(page, path: Path, query: str = "") -> bytes:
    answer = page.request.post(
        f"{page.url}v1/derain?{query}", data=path.read_bytes(), headers={"Authorization": "Bearer open sesame"}
    )
    assert answer.status == 200
    return answer.body()


def test_strength_shows_at_once_and_is_saved(page, files):
    page.set_input_files("#files", files["wet.png"])
    page.wait_for_selector("li.done")
    page.locator("#stage .split").focus()
    page.keyboard.press("Home")
    full = pixels(page, (0.5, 0.5))
    page.locator("#strength").fill("0")
    none = pixels(page, (0.5, 0.5))
    assert np.abs(none - full).max() > 3
    page.locator("#strength").fill("50")
    assert page.locator("#strength-told").text_content() == "50 %"
    assert np.abs(pixels(page, (0.5, 0.5)) - (none + full) / 2).max() < 2
    with page.expect_download() as saved:
        page.click("#one")
    assert Path(saved.value.path()).read_bytes() == posted(page, files["wet.png"], "strength=0.5")


def test_rubbish_gets_a_kind_message_and_can_be_removed(page, files):
    page.set_input_files("#files", [files["notes.txt"], files["half.png"]])
    sync_api.expect(page.locator("li.failed")).to_have_count(2, timeout=30_000)
    assert page.locator("#trouble").is_visible()
    assert page.locator("#trouble-title").text_content() == "notes.txt"
    assert "does not look like a photo" in page.locator("#trouble-text").text_content()
    assert page.locator("#other").is_visible()
    assert not page.locator("#again").is_visible()  # it would be in vain
    page.click("#photo-2 .thumb")
    assert "damaged" in page.locator("#trouble-text").text_content()
    page.click("#remove")
    page.click("#remove")
    assert page.locator("#welcome").is_visible()


def test_several_photos_come_as_a_zip(page, files):
    page.set_input_files("#files", [files["wet.png"], files["notes.txt"], files["tall.jpg"], files["wet.png"]])
    sync_api.expect(page.locator("li.done")).to_have_count(3, timeout=30_000)
    with page.expect_download() as saved:
        page.click("#all")
    archive = zipfile.ZipFile(saved.value.path())
    assert archive.testzip() is None
    assert archive.namelist() == ["wet_derained.png", "tall_derained.jpg", "wet_derained-2.png"]
    assert archive.read("tall_derained.jpg") == posted(page, files["tall.jpg"])


def test_a_tiff_is_shown_and_saved_as_tiff(page, files):
    page.set_input_files("#files", files["scan.tif"])
    page.wait_for_selector("li.done")
    assert page.evaluate("document.querySelector('#stage .before').naturalWidth") == 100
    with page.expect_download() as saved:
        page.click("#one")
    assert saved.value.suggested_filename == "scan_derained.tif"
    assert Path(saved.value.path()).read_bytes() == posted(page, files["scan.tif"])


def test_zoom_shows_every_pixel(page, files):
    page.set_input_files("#files", files["wet.png"])
    page.wait_for_selector("li.done")
    page.click("#zoom")
    assert page.locator("#zoom").get_attribute("aria-pressed") == "true"
    box = page.locator("#stage .sheet").bounding_box()
    assert (box["width"], box["height"]) == (300, 200)


def test_a_photo_removed_while_in_work_leaves_the_others_alone(page, files):
    page.route("**/v1/derain?*", lambda _route: None, times=1)  # the first photo never gets an answer
    page.set_input_files("#files", [files["wet.png"], files["tall.jpg"]])
    page.wait_for_selector("li.working")
    page.hover("#photo-1")
    page.click("#photo-1 .away")
    page.wait_for_selector("li.done")
    assert page.locator("#strip li").count() == 1
    assert page.locator("li.failed").count() == 0


def test_a_lost_connection_can_be_tried_again(page, files):
    page.route("**/v1/derain?*", lambda route: route.abort(), times=1)
    page.set_input_files("#files", files["tall.jpg"])
    page.wait_for_selector("li.failed")
    assert "cannot be reached" in page.locator("#trouble-text").text_content()
    page.click("#again")
    page.wait_for_selector("li.done")


def test_paste_drop_and_samples(page, files):
    give = """(kind) => {
        const bytes = Uint8Array.from(atob(kind.data), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "given.jpg", {type: "image/jpeg"}));
        const event = kind.name === "paste"
            ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
            : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
    }"""
    data = base64.b64encode(files["tall.jpg"].read_bytes()).decode()
    for name in ("paste", "drop"):
        page.evaluate(give, {"name": name, "data": data})
    sync_api.expect(page.locator("li.done")).to_have_count(2, timeout=30_000)
    for _ in range(2):
        page.click("li:last-child .away")
    page.click("[data-sample='chelsea.jpg']")
    page.wait_for_selector("li.done")
    assert page.locator("#stage .before").get_attribute("alt") == "chelsea.jpg, before"


def test_a_finger_moves_the_divider_on_a_phone(browser, address, files):
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.add_init_script("sessionStorage.setItem('token', 'open sesame')")
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") == 390  # nothing sticks out
    page.set_input_files("#files", files["wet.png"])
    page.wait_for_selector("li.done")
    box = page.locator("#stage .sheet").bounding_box()
    page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"])
    assert divider(page) == pytest.approx(0.8, abs=0.02)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_the_token_is_asked_for(browser, address, files):
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("dialog[open]")
    page.fill("#token", "open sesame")
    page.keyboard.press("Enter")
    page.wait_for_selector("#model option", state="attached")
    page.set_input_files("#files", files["tall.jpg"])
    page.wait_for_selector("li.done")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.skipif(_AXE is None, reason="DERAIN_AXE does not name axe.min.js (npm pack axe-core)")
def test_axe_finds_no_fault(browser, address, files, scheme):
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.add_init_script("sessionStorage.setItem('token', 'open sesame')")
    page.goto(address)

    def faults() -> str:
        page.evaluate(Path(_AXE).read_text(encoding="utf-8"))
        found = page.evaluate("axe.run()")["violations"]
        return json.dumps([(fault["id"], fault["impact"], fault["nodes"][0]["target"]) for fault in found])

    assert faults() == "[]"
    page.set_input_files("#files", [files["wet.png"], files["notes.txt"]])
    page.wait_for_selector("li.done")
    page.wait_for_selector("li.failed")
    assert faults() == "[]"
    page.click("#photo-2 .thumb")
    assert faults() == "[]"
    context.close()
