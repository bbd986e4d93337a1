"""Pictures of a report for the README: light and dark, on a desk and on a phone.

In: a folder with a ``report.html`` (``edge-van report BUNDLE`` makes it).
Out: ``report-light-1440.png`` and its like under ``docs/images``.

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver) and the dev extra.
"""

from __future__ import annotations

import argparse
import base64
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
SCREENS = {1440: (1500, 1.0), 390: (1640, 1.5)}
"""CSS pixels of width: (of height from the top of the page, picture's pixels for each)."""
COLOURS = 128
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a bundle's folder, or another that edge-van report wrote to")
    parser.add_argument("--output", type=Path, default=IMAGES)
    arguments = parser.parse_args()
    page = arguments.folder / "report.html"
    if not page.is_file():
        sys.exit(f"{page} is not there: run edge-van report {arguments.folder}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        driver = open_browser(Path(profile))
        try:
            for width in SCREENS:
                for scheme in ("light", "dark"):
                    path = arguments.output / f"report-{scheme}-{width}.png"
                    path.write_bytes(compressed(picture(driver, page, width, scheme)))
                    print(f"{path}  {path.stat().st_size / 1e3:.0f} kB")
        finally:
            driver.quit()


def open_browser(profile: Path) -> Any:
    binary, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if binary is None or driver is None:
        sys.exit("chromium and chromedriver are needed: apt-get install chromium chromium-driver")
    options = Options()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(driver))


def picture(driver: Any, page: Path, width: int, scheme: str) -> bytes:
    """The top of the page as PNG."""
    height, scale = SCREENS[width]
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    driver.get(page.resolve().as_uri())
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": scale}
    found = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "clip": clip})
    return base64.b64decode(found["data"])


def compressed(png: bytes) -> bytes:
    """The same in a palette of few colours: flat areas and text need no more."""
    with Image.open(io.BytesIO(png)) as image:
        out = io.BytesIO()
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        return out.getvalue()


if __name__ == "__main__":
    main()
