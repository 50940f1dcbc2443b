"""The app as its users meet it: the running server, through gradio's client, and in a browser without a window.

Needs the extra ``app``; browser tests also chromium and its driver; ``make app`` has the rest.
"""

import html
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
pytest.importorskip("timm")

from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from idaa_transforms.app import server
from idaa_transforms.app.models import Models
from idaa_transforms.app.pictures import SAMPLES
from idaa_transforms.app.server import Desk, launch

pytestmark = pytest.mark.slow

SMALL = "cifar10-vae-small"
SPACE = Path(__file__).parents[1] / "examples" / "space"


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Address and desk of a running app, whose uploads are files for two seconds."""
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr(server, "KEPT", (1, 2))
        (folder / "mine.py").write_text("from torch import nn\n\ndef broken():\n    return nn.Linear(7, 7)\n")
        broken = f"{folder}/mine.py:broken"
        desk, port = Desk(Models([SMALL, "cifar10-vae-z128"], ["cifar10-classifier", broken])), free_port()
        page = launch(desk, port=port, block=False)
        desk.files, desk.page, desk.broken = folder, page, broken
        yield f"http://127.0.0.1:{port}", desk
        page.close()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working folder with two pictures, one that is broken, and two that are too large."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("red.png", "blue.png")):
        noise = torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(seed))
        noise[..., 2 * seed] = 1
        Image.fromarray((255 * noise).byte().numpy()).resize((120, 80)).save(name)
    Path("broken.png").write_bytes(Path("red.png").read_bytes()[:500])
    Path("heavy.png").write_bytes(bytes(11_000_000))
    Image.new("L", (5000, 4000)).save("wide.png")
    return tmp_path


def losses(page):
    """Of x and x', as the page says them."""
    return [float(re.search(rf'id="{name}">(?:<!--.*?-->)?([\d.]+)', page)[1]) for name in ("before", "after")]


def agree(page, code):
    """What the page says is what its Python computes, run as it stands."""
    names = {}
    exec(compile(code, "shown", "exec"), names)
    found = names["found"]
    assert losses(page) == pytest.approx([found.loss_before.item(), found.loss_after.item()], abs=6e-5)
    share = 100 * names["judge"](found.views).softmax(1).max().item()
    assert f"{share:.1f} %" in page
    return found


class TestServer:
    def test_a_view_and_its_python(self, app):
        page, code = Client(app[0], verbose=False).predict(eps=1.0, steps=2, api_name="/view")
        agree(page, code)
        assert page.count("<img") == 5

    def test_uploads_of_two_visitors_do_not_mix(self, app, files):
        visitors = {name: Client(app[0], verbose=False) for name in ("red.png", "blue.png")}
        for name, visitor in visitors.items():
            told = visitor.predict(handle_file(name), api_name="/upload")
            assert f"Your picture: {name}" in told[-1]
        jobs = {name: visitor.submit(eps=0.7, api_name="/view") for name, visitor in visitors.items()}
        for name, job in jobs.items():
            page, code = job.result()
            assert f"Path('{name}')" in code
            agree(page, code)
        assert "cifar10_sample" in Client(app[0], verbose=False).predict(api_name="/view")[1]

    @pytest.mark.parametrize(
        ("name", "message"), [("broken.png", "broken.png: "), ("wide.png", "5,000 x 4,000 pixels")]
    )
    def test_bad_uploads_are_told_and_the_picture_stays(self, app, files, name, message):
        visitor = Client(app[0], verbose=False)
        told = visitor.predict(handle_file(name), api_name="/upload")[-1]
        assert message in html.unescape(told)
        assert 'role="alert"' in told
        assert str(app[1].files) not in told
        agree(*visitor.predict(api_name="/view"))

    def test_a_heavy_upload_is_refused(self, app, files):
        with pytest.raises((AppError, ValueError, OSError), match=r"413|size"):
            Client(app[0], verbose=False).predict(handle_file("heavy.png"), api_name="/upload")

    def test_mistakes_are_told(self, app):
        visitor = Client(app[0], verbose=False)
        page, code = visitor.predict(network=app[1].broken, api_name="/view")
        assert 'role="alert"' in page
        assert "failed on images" in page
        assert code == ""
        agree(*visitor.predict(api_name="/view"))
        with pytest.raises(AppError, match="less than minimum"):  # as no slider would say it
            visitor.predict(eps=-1, api_name="/view")

    def test_files_of_uploads_are_deleted(self, app, files):
        Client(app[0], verbose=False).predict(handle_file("red.png"), api_name="/upload")
        for _ in range(100):
            left = list(app[1].files.rglob("red.png"))
            if not left:
                break
            time.sleep(0.1)
        assert left == []

    def test_it_serves_this_machine_alone(self, app):
        assert app[1].page.local_url.startswith("http://127.0.0.1")
        assert app[1].page.share_url is None
        assert app[1].page.analytics_enabled is False


def test_the_space_starts(tmp_path):
    port = free_port()
    environment = os.environ | {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": str(port)}
    root = str(SPACE.parents[1])
    environment |= {"GRADIO_TEMP_DIR": str(tmp_path), "PYTHONPATH": root}
    process = subprocess.Popen([sys.executable, SPACE / "app.py"], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert answers(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.communicate(timeout=30)
    card = (SPACE / "README.md").read_text()
    assert re.search(r"^sdk: gradio$", card, re.MULTILINE)
    assert re.search(r"^app_file: app.py$", card, re.MULTILINE)
    assert (SPACE / "requirements.txt").read_text() == "idaa_transforms[app]\n"


def answers(address, process):
    """Whether the page is there within a minute."""
    for _ in range(300):
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
        self.wait(lambda: self.all("#result img") and self.code)

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def wait(self, true, seconds=30):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.text("#result")
            time.sleep(0.05)

    def text(self, css):
        return self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", css)

    @property
    def html(self):
        return self.driver.execute_script("return document.querySelector('#result').innerHTML")

    @property
    def code(self):
        lines = "return [...document.querySelectorAll('#code .cm-line')].map(l => l.textContent).join('\\n')"
        return self.driver.execute_script(lines)

    def after(self, act):
        """Page and Python once ``act`` has had its effect, and they belong together."""
        before = self.code
        act()
        self.wait(lambda: self.code != before and "..." not in self.code)
        self.wait(lambda: not self.all("#result .generating, #result .pending"))
        time.sleep(0.3)
        return self.html, self.code

    def slide(self, label, value):
        field = self.driver.find_element("css selector", f'input[type=number][aria-label*="{label}"]')
        field.send_keys("\ue009a\ue000", str(value), "\ue004")  # all of it, replaced; then Tab

    def tick(self, value):
        self.driver.find_element("css selector", f'input[type=radio][value="{value}"]').click()

    def choose(self, label, value):
        self.driver.find_element("css selector", f'input[aria-label="{label}"]').click()
        self.wait(lambda: self.all("[role=option]"))
        next(item for item in self.all("[role=option]") if item.get_attribute("aria-label").endswith(value)).click()

    def upload(self, file):
        self.driver.find_element("css selector", "#upload input[type=file]").send_keys(str(Path(file).resolve()))


@pytest.fixture
def page(driver, app):
    driver.set_window_size(1300, 900)
    driver.get_log("performance")
    return Page(driver, app[0])


class TestBrowser:
    def test_nothing_is_asked_of_other_machines(self, page, driver):
        messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        assert len(asked) > 5
        assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))] == []
        assert [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []

    def test_every_control_changes_view_and_python_alike(self, page):
        acts = [
            lambda: page.all("#samples button.thumbnail-item")[4].click(),
            lambda: page.tick("64"),
            lambda: page.slide("eps", 0.5),
            lambda: page.slide("Steps", 3),
            lambda: page.tick("posterior"),
            lambda: page.tick("l2"),
            lambda: page.slide("Target gain", 0.1),
            lambda: page.slide("Guard", 0.9),
            lambda: page.choose("Weights", "z128"),
            lambda: page.choose("Network that is attacked", "judge"),
            lambda: page.choose("Judge", "classifier"),
        ]
        pictures = page.html
        for act in acts:
            shown, code = page.after(act)
            agree(shown, code)
            assert shown != pictures
            pictures = shown
        assert all(said in code for said in ("z128", "norm='l2'", "steps=3", "target_gain=0.1", "Guard(judge, 0.9)"))

    def test_uploads_good_broken_and_huge(self, page, app, files):
        agree(*page.after(lambda: page.upload("red.png")))
        assert "Path('red.png')" in page.code
        for name, told in (("broken.png", "broken.png:"), ("wide.png", "20,000,000|5,000 x 4,000")):
            page.upload(name)
            page.wait(lambda told=told: re.search(told, page.text("#told")))
        page.upload("heavy.png")
        page.wait(lambda: re.search("size|large|MB", page.text("body")[-400:], re.IGNORECASE))
        assert "Path('red.png')" in page.code
        agree(*page.after(lambda: page.upload("blue.png")))

    def test_two_windows_do_not_mix_and_are_forgotten(self, page, driver, app, files):
        first, kept = driver.current_window_handle, len(app[1].uploads)
        page.after(lambda: page.upload("red.png"))
        driver.switch_to.new_window("window")
        other = Page(driver, app[0])
        other.after(lambda: other.upload("blue.png"))
        assert len(app[1].uploads) == kept + 2
        other.slide("eps", 0.4)
        driver.switch_to.window(first)
        _, code = page.after(lambda: page.slide("eps", 0.6))
        assert "red.png" in code
        assert "eps=0.6" in code
        driver.switch_to.window(driver.window_handles[-1])
        other.wait(lambda: "eps=0.4" in other.code)
        assert "blue.png" in other.code
        driver.close()
        driver.switch_to.window(first)
        page.wait(lambda: len(app[1].uploads) == kept + 1)

    def test_by_keyboard_alone(self, page, driver):
        def focus(true):
            for _ in range(60):
                driver.switch_to.active_element.send_keys("\ue004")
                if true(driver.switch_to.active_element):
                    return driver.switch_to.active_element
            raise AssertionError("not reached by Tab")

        second = page.all("#samples button.thumbnail-item")[1]
        _, code = page.after(lambda: focus(lambda at: at == second).send_keys("\ue007"))
        assert f"[{SAMPLES[1]}:{SAMPLES[1] + 1}]" in code
        slider = focus(lambda at: at.get_attribute("type") == "range" and "eps" in at.get_attribute("aria-label"))
        shown, code = page.after(lambda: slider.send_keys("\ue014"))
        assert "eps=0.11" in code
        agree(shown, code)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_on_a_phone_by_day_and_night(self, driver, app, scheme):
        metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        try:
            page = Page(driver, app[0])
            assert driver.execute_script("return document.documentElement.scrollWidth") <= 400
            assert all(each.rect["x"] >= 0 and each.rect["x"] + each.rect["width"] <= 400 for each in page.all("img"))
            look = (
                "const s = getComputedStyle(document.querySelector(arguments[0])); return [s.color, s.backgroundColor]"
            )
            ink = brightness(driver.execute_script(look, ".idaa")[0])
            paper = brightness(driver.execute_script(look, "body")[1])
            assert (paper < 60 and ink > 200) if scheme == "dark" else (paper > 240 and ink < 60)
        finally:
            driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def test_axe_finds_no_serious_fault_of_ours(self, page, driver):
        """With AXE=path/to/axe.min.js, of npm's axe-core. gradio's upload field has another name than what it shows."""
        if not os.environ.get("AXE"):
            pytest.skip("AXE does not name a copy of axe-core: npm pack axe-core")
        driver.execute_script(Path(os.environ["AXE"]).read_text())
        found = driver.execute_async_script("const done = arguments[0]; axe.run().then(done)")["violations"]
        serious = {each["id"] for each in found if each["impact"] in ("serious", "critical")}
        assert serious <= {"label-content-name-mismatch"}


def brightness(colour):
    """The mean of a CSS colour's red, green and blue."""
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3
