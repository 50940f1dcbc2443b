"""The app as its users meet it: the running server through gradio's client, and a browser without a window.

Needs the extra ``app``; the browser tests also chromium and its driver. ``make app`` installs the Python side.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'idaa_transforms[app]', or make app")

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from idaa_transforms.app import server
from idaa_transforms.app.models import Models
from idaa_transforms.app.server import launch

pytestmark = pytest.mark.slow

SMALL = "cifar10-vae-small"
SPACE = Path(__file__).parents[1] / "examples" / "space"


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


class App:
    """A running app, whose uploads are files for two seconds."""

    def __init__(self, folder):
        (folder / "mine.py").write_text("from torch import nn\n\ndef broken():\n    return nn.Linear(7, 7)\n")
        self.broken = f"{folder}/mine.py:broken"
        models, port = Models([SMALL, "natural-vae"], ["cifar10-classifier", self.broken]), free_port()
        self.page, self.address, self.files = launch(models, port=port, block=False), f"http://127.0.0.1:{port}", folder

    def visitor(self):
        return Client(self.address, verbose=False)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr(server, "DELETE_UPLOADS", (1, 2))
        app = App(folder)
        yield app
        app.page.close()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working folder with two pictures, one that is broken, and one that is too large."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("red.png", "blue.png")):
        noise = torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(seed))
        noise[..., 2 * seed] = 1
        Image.fromarray((255 * noise).byte().numpy()).resize((120, 80)).save(name)
    Path("broken.png").write_bytes(Path("red.png").read_bytes()[:500])
    Path("heavy.png").write_bytes(bytes(11_000_000))
    return tmp_path


def agree(predictions, code):
    """The losses that the page says are those that its Python computes."""
    names = {}
    exec(compile(code, "shown", "exec"), names)
    found = names["found"]
    losses = [float(re.search(rf'id="{name}">(?:<!--.*?-->)?([\d.]+)', predictions)[1]) for name in ("before", "after")]
    assert losses == pytest.approx([found.loss_before.item(), found.loss_after.item()], abs=6e-5)


class TestServer:
    def test_a_view_and_its_python(self, app):
        pictures, predictions, code = app.visitor().predict(eps=1.0, steps=2, api_name="/view")
        agree(predictions, code)
        assert pictures.count("<img") == 5
        assert app.page.local_url.startswith("http://127.0.0.1")
        assert app.page.share_url is None

    def test_uploads_of_two_visitors_do_not_mix(self, app, files):
        visitors = {name: app.visitor() for name in ("red.png", "blue.png")}
        for name, visitor in visitors.items():
            assert any(
                f"Your picture: {name}" in str(part) for part in visitor.predict(handle_file(name), api_name="/upload")
            )
        jobs = {name: visitor.submit(eps=0.7, api_name="/view") for name, visitor in visitors.items()}
        for name, job in jobs.items():
            _, predictions, code = job.result()
            assert f"Image.open('{name}')" in code
            agree(predictions, code)
        assert "cifar10_sample" in app.visitor().predict(api_name="/view")[2]

    def test_bad_uploads_are_told_and_the_picture_stays(self, app, files):
        visitor = app.visitor()
        told = str(visitor.predict(handle_file("broken.png"), api_name="/upload"))
        assert "broken.png: " in told
        assert 'role="alert"' in told
        assert str(app.files) not in told
        with pytest.raises((AppError, ValueError, OSError), match=r"413|size"):
            visitor.predict(handle_file("heavy.png"), api_name="/upload")
        assert "cifar10_sample" in visitor.predict(api_name="/view")[2]

    def test_mistakes_are_told_and_nothing_else_than_what_is_offered_is_loaded(self, app):
        visitor = app.visitor()
        page, *rest = visitor.predict(network=app.broken, api_name="/view")
        assert 'role="alert"' in page
        assert "failed on images" in page
        assert rest == ["", ""]
        for wrong in ({"eps": -1}, {"weights": "/etc"}, {"network": "os:abort"}, {"size": 10_000}, {"steps": 10**6}):
            with pytest.raises(AppError):
                visitor.predict(**wrong, api_name="/view")

    def test_files_of_uploads_are_deleted(self, app, files):
        app.visitor().predict(handle_file("red.png"), api_name="/upload")
        end = time.monotonic() + 30
        while list(app.files.rglob("red.png")):
            assert time.monotonic() < end
            time.sleep(0.1)


def test_the_space_starts(tmp_path):
    port = free_port()
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    environment |= {"GRADIO_TEMP_DIR": str(tmp_path), "PYTHONPATH": str(SPACE.parents[1])}
    process = subprocess.Popen([sys.executable, SPACE / "app.py"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert answers(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def answers(address, process):
    """Whether the page is there within two minutes."""
    for _ in range(600):
        assert process.poll() is None, process.stderr.read()
        try:
            with urllib.request.urlopen(address, timeout=5) as page:
                return "IDAA" in page.read().decode()
        except OSError:
            time.sleep(0.2)
    return False


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def driver():
    """A browser that can reach this machine alone."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium or chromedriver on this machine: apt install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: make app")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield opened
    opened.quit()


class Page:
    """What a person does with the page."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)
        self.wait(lambda: self.all("#pictures img") and self.code)

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def wait(self, true, seconds=60):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.text("#pictures")
            time.sleep(0.05)

    def text(self, css):
        return self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", css)

    @property
    def predictions(self):
        return self.driver.execute_script("return document.querySelector('#predictions').innerHTML")

    @property
    def code(self):
        lines = "return [...document.querySelectorAll('#code .cm-line')].map(l => l.textContent).join('\\n')"
        return self.driver.execute_script(lines)

    def after(self, act, said):
        """Once ``said`` stands in the Python, the page says what it computes."""
        act()
        self.wait(lambda: re.search(said, self.code) and "..." not in self.code)
        self.wait(lambda: not self.all(".generating, .pending"))
        time.sleep(0.5)
        agree(self.predictions, self.code)

    def slide(self, label, value):
        field = self.driver.find_element("css selector", f'input[type=number][aria-label*="{label}"]')
        field.send_keys("\ue009a\ue000", str(value), "\ue004")  # all of it, replaced; then Tab

    def tick(self, value):
        self.driver.find_element("css selector", f'input[type=radio][value="{value}"]').click()

    def choose(self, label, value):
        self.driver.find_element("css selector", f'input[aria-label^="{label}"]').click()
        self.wait(lambda: self.all("[role=option]"))
        next(item for item in self.all("[role=option]") if item.get_attribute("aria-label").endswith(value)).click()


@pytest.fixture
def page(driver, app):
    driver.set_window_size(1300, 900)
    driver.get_log("performance")
    return Page(driver, app.address)


class TestBrowser:
    def test_nothing_is_asked_of_other_machines(self, page, driver):
        messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        assert len(asked) > 5
        assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))] == []
        assert [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []

    def test_every_control_changes_view_and_python_alike(self, page, files):
        page.after(lambda: page.all("#samples button.thumbnail-item")[4].click(), r"\[0\]\[0\]")
        page.after(lambda: page.tick("64"), r"\(64, 64\)")
        page.after(lambda: page.slide("eps", 0.5), "eps=0.5")
        page.driver.find_element("css selector", "button.label-wrap").click()
        page.after(lambda: page.slide("Steps", 3), "steps=3")
        page.after(lambda: page.choose("Network", "reference"), "network = load_model.'cifar10-reference'")
        page.after(lambda: page.choose("Reference", "classifier"), "reference = load_model.'cifar10-classifier'")
        page.after(lambda: page.choose("Weights", "natural-vae"), "natural-vae', eps=0.05")  # their own eps
        page.driver.find_element("css selector", "#upload input[type=file]").send_keys(str(files / "red.png"))
        page.after(lambda: None, r"'red.png'[^$]*\(224, 224\)")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone_by_day_and_night(self, driver, app, scheme):
        metrics = {"width": 400, "height": 700, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        try:
            page = Page(driver, app.address)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= 400
            assert all(each.rect["x"] >= 0 and each.rect["x"] + each.rect["width"] <= 400 for each in page.all("img"))
            picture, slider = page.all("#pictures img")[0].rect, page.all("input[type=range]")[0].rect
            assert slider["y"] + slider["height"] - picture["y"] < 500, "the picture is in sight while eps moves"
            look = (
                "const s = getComputedStyle(document.querySelector(arguments[0])); return [s.color, s.backgroundColor]"
            )
            ink = brightness(driver.execute_script(look, ".idaa")[0])
            paper = brightness(driver.execute_script(look, "body")[1])
            assert (paper < 60 and ink > 200) if scheme == "dark" else (paper > 240 and ink < 60)
        finally:
            driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def brightness(colour):
    """The mean of a CSS colour's red, green and blue."""
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3
