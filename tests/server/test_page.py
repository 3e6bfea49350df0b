"""The page in a real Chromium, used by mouse, keyboard and finger."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import stat
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from derain.weights import manifest

pytest.importorskip("fastapi", reason="the extra derain[server] is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: Path of axe.min.js from the npm package axe-core, which is not distributed with derain: `npm pack axe-core`.
_AXE = os.environ.get("DERAIN_AXE")

pytestmark = pytest.mark.skipif(_CHROMIUM is None, reason="no chromium; apt-get install chromium")


@pytest.fixture(scope="module")
def address(small_weight):
    import uvicorn

    from derain.server.app import create_app
    from derain.server.settings import Settings

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
    """The page with its token set. Script errors and requests to other origins fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(30_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Security Policy" in message.text else None)
    page.on(
        "request", lambda request: None if request.url.startswith((address, "blob:")) else faults.append(request.url)
    )
    page.add_init_script("sessionStorage.setItem('token', 'open sesame')")
    page.goto(address)
    yield page
    context.close()
    assert faults == []


@pytest.fixture(scope="module")
def files(photo, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(photo).save(folder / "rainy.png")
    Image.fromarray(photo[:100, :90]).save(folder / "tall.jpg")
    Image.fromarray(photo[:90, :100]).save(folder / "scan.tif")
    (folder / "notes.txt").write_text("not an image")
    (folder / "half.png").write_bytes((folder / "rainy.png").read_bytes()[:9000])
    return {path.name: path for path in folder.iterdir()}


def divider(page) -> float:
    """Position of the divider, as a share of the image's width."""
    sheet = page.locator("#stage .sheet").bounding_box()
    line = page.locator("#stage .divider").bounding_box()
    return (line["x"] + line["width"] / 2 - sheet["x"]) / sheet["width"]


def pixels(page, position: tuple[float, float]) -> np.ndarray:
    """Mean color of a small square on the screen, at a position given as shares of the image's size."""
    sheet = page.locator("#stage .sheet").bounding_box()
    x, y = sheet["x"] + position[0] * sheet["width"], sheet["y"] + position[1] * sheet["height"]
    shot = page.screenshot(clip={"x": x - 4, "y": y - 4, "width": 8, "height": 8})
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).mean(axis=(0, 1))


def test_upload_result_slider_download(page, files, address):
    page.set_input_files("#files", files["rainy.png"])
    page.wait_for_selector("li.done")
    assert page.locator("#status").text_content() == "rainy.png is done"
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
        page.click("#download")
    assert saved.value.suggested_filename == "rainy_derained.png"
    assert Path(saved.value.path()).read_bytes() == response_to(page, files["rainy.png"])


def response_to(page, path: Path, query: str = "") -> bytes:
    response = page.request.post(
        f"{page.url}v1/derain?{query}", data=path.read_bytes(), headers={"Authorization": "Bearer open sesame"}
    )
    assert response.status == 200
    return response.body()


def test_strength_is_previewed_and_downloaded(page, files):
    page.set_input_files("#files", files["rainy.png"])
    page.wait_for_selector("li.done")
    page.locator("#stage .split").focus()
    page.keyboard.press("Home")
    full = pixels(page, (0.5, 0.5))
    page.locator("#strength").fill("0")
    none = pixels(page, (0.5, 0.5))
    assert np.abs(none - full).max() > 3
    page.locator("#strength").fill("50")
    assert page.locator("#strength-value").text_content() == "50 %"
    assert np.abs(pixels(page, (0.5, 0.5)) - (none + full) / 2).max() < 2
    with page.expect_download() as saved:
        page.click("#download")
    assert Path(saved.value.path()).read_bytes() == response_to(page, files["rainy.png"], "strength=0.5")


def test_other_files_get_a_message_and_can_be_removed(page, files):
    page.set_input_files("#files", [files["notes.txt"], files["half.png"]])
    sync_api.expect(page.locator("li.failed")).to_have_count(2, timeout=30_000)
    assert page.locator("#trouble").is_visible()
    assert page.locator("#trouble-title").text_content() == "notes.txt"
    assert "does not look like a photo" in page.locator("#trouble-text").text_content()
    assert page.locator("#choose-other").is_visible()
    assert not page.locator("#retry").is_visible()  # it would fail again
    page.click("#photo-2 .thumb")
    assert "damaged" in page.locator("#trouble-text").text_content()
    page.click("#remove")
    page.click("#remove")
    assert page.locator("#welcome").is_visible()


def test_several_photos_are_downloaded_as_a_zip(page, files):
    page.set_input_files("#files", [files["rainy.png"], files["notes.txt"], files["tall.jpg"], files["rainy.png"]])
    sync_api.expect(page.locator("li.done")).to_have_count(3, timeout=30_000)
    with page.expect_download() as saved:
        page.click("#download-all")
    archive = zipfile.ZipFile(saved.value.path())
    assert archive.testzip() is None
    assert archive.namelist() == ["rainy_derained.png", "tall_derained.jpg", "rainy_derained-2.png"]
    assert archive.read("tall_derained.jpg") == response_to(page, files["tall.jpg"])
    for entry in archive.infolist():
        assert abs(time.time() - time.mktime((*entry.date_time, 0, 0, -1))) < 60
        assert (entry.create_system, stat.filemode(entry.external_attr >> 16)) == (3, "-rw-r--r--")


def test_a_tiff_is_displayed_and_downloaded_as_tiff(page, files):
    page.set_input_files("#files", files["scan.tif"])
    page.wait_for_selector("li.done")
    assert page.evaluate("document.querySelector('#stage .before').naturalWidth") == 100
    with page.expect_download() as saved:
        page.click("#download")
    assert saved.value.suggested_filename == "scan_derained.tif"
    assert Path(saved.value.path()).read_bytes() == response_to(page, files["scan.tif"])


def test_the_license_of_the_chosen_model_is_shown(page, files):
    page.set_input_files("#files", files["rainy.png"])
    page.wait_for_selector("li.done")
    assert page.locator("#license").text_content() == "License of small: unknown; it was imported on this server."
    for alias, label in (("default", "Best"), ("fast", "Faster")):
        page.select_option("#model", label=label)
        assert page.locator("#model").input_value() == alias
        entry = manifest().find(alias)
        assert page.locator("#license").text_content() == f"License of {entry.name}: {entry.license}."
        assert page.locator("#license").is_visible()


def test_each_model_is_listed_once_under_a_plain_name(page, files):
    page.wait_for_selector("#model option", state="attached")
    options = page.locator("#model option").all_text_contents()
    aliased = set(manifest().aliases.values())
    others = [f"{name}, {entry.speed}" for name, entry in manifest().models.items() if name not in aliased]
    assert sorted(options) == sorted(["small", "Best", "Faster", *others])
    assert page.locator("#model").input_value() == "small"  # the server's default


@pytest.mark.parametrize("default", ["default", "gated-unet"])
def test_the_best_model_is_named_also_if_it_is_the_servers_default(page, address, default):
    """By its alias, or by its name."""
    name = manifest().aliases["default"]
    described = page.request.get(f"{address}v1/models", headers={"Authorization": "Bearer open sesame"}).json()
    described["default"] = chosen = default if default == "default" else name
    page.route("**/v1/models", lambda route: route.fulfill(json=described))
    page.reload()
    page.wait_for_selector("#model option", state="attached")
    assert page.locator("#model").input_value() == chosen
    assert page.locator("#model option:checked").text_content() == "Best"


def test_zoom_shows_every_pixel(page, files):
    page.set_input_files("#files", files["rainy.png"])
    page.wait_for_selector("li.done")
    page.click("#zoom")
    assert page.locator("#zoom").get_attribute("aria-pressed") == "true"
    box = page.locator("#stage .sheet").bounding_box()
    assert (box["width"], box["height"]) == (300, 200)


def test_removing_a_photo_in_progress_does_not_affect_the_others(page, files):
    page.route("**/v1/derain?*", lambda _route: None, times=1)  # the first photo never gets a response
    page.set_input_files("#files", [files["rainy.png"], files["tall.jpg"]])
    page.wait_for_selector("li.working")
    page.hover("#photo-1")
    page.click("#photo-1 .away")
    page.wait_for_selector("li.done")
    assert page.locator("#strip li").count() == 1
    assert page.locator("li.failed").count() == 0


def test_a_lost_connection_can_be_retried(page, files):
    page.route("**/v1/derain?*", lambda route: route.abort(), times=1)
    page.set_input_files("#files", files["tall.jpg"])
    page.wait_for_selector("li.failed")
    assert "cannot be reached" in page.locator("#trouble-text").text_content()
    page.click("#retry")
    page.wait_for_selector("li.done")


def test_paste_drop_and_samples(page, files):
    transfer_file = """(kind) => {
        const bytes = Uint8Array.from(atob(kind.data), (c) => c.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "photo.jpg", {type: "image/jpeg"}));
        const event = kind.name === "paste"
            ? new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true})
            : new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
    }"""
    data = base64.b64encode(files["tall.jpg"].read_bytes()).decode()
    for name in ("paste", "drop"):
        page.evaluate(transfer_file, {"name": name, "data": data})
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
    assert page.evaluate("document.documentElement.scrollWidth") == 390  # no horizontal overflow
    page.set_input_files("#files", files["rainy.png"])
    page.wait_for_selector("li.done")
    box = page.locator("#stage .sheet").bounding_box()
    page.touchscreen.tap(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"])
    assert divider(page) == pytest.approx(0.8, abs=0.02)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_the_token_is_requested(browser, address, files):
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
def test_axe_finds_no_violation(browser, address, files, scheme):
    context = browser.new_context(color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.add_init_script("sessionStorage.setItem('token', 'open sesame')")
    page.goto(address)

    def faults() -> str:
        page.evaluate(Path(_AXE).read_text(encoding="utf-8"))
        found = page.evaluate("axe.run()")["violations"]
        return json.dumps([(fault["id"], fault["impact"], fault["nodes"][0]["target"]) for fault in found])

    assert faults() == "[]"
    page.set_input_files("#files", [files["rainy.png"], files["notes.txt"]])
    page.wait_for_selector("li.done")
    page.wait_for_selector("li.failed")
    assert faults() == "[]"
    page.click("#photo-2 .thumb")
    assert faults() == "[]"
    context.close()
