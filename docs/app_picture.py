"""Make docs/app.png: the app in a browser without a window, with one view.

    python docs/app_picture.py

Needs the extra ``app``, selenium, chromium and chromedriver.
"""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver

from idaa_transforms.app.models import Models
from idaa_transforms.app.server import Desk, launch

OUT = Path(__file__).with_name("app.png")
PORT, WIDTH, HEIGHT = 7899, 1200, 1000


def main() -> None:
    """Serve, look, save in 256 colours."""
    page = launch(Desk(Models()), port=PORT, block=False)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        metrics = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(f"http://127.0.0.1:{PORT}")
        end = time.monotonic() + 60
        while not driver.find_elements("css selector", "#result img, #code .cm-line"):
            assert time.monotonic() < end, "the page did not come"
            time.sleep(0.2)
        time.sleep(2)  # fonts, and the frame of the last transition
        shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    finally:
        driver.quit()
        page.close()
    shot.quantize(256).save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
