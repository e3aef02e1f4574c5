"""A TensorBoard, and a headless Chromium that looks at it."""

import contextlib
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
_SECONDS = 300
# TensorBoard's older pages are made of nested web components, each with a document of its own.
_FIND = """
    const shadow = (element) => element.shadowRoot ? all(element.shadowRoot) : [];
    const all = (root) => [
        ...shadow(root), ...[...root.querySelectorAll("*")].flatMap((element) => [element, ...shadow(element)])];
    const within = (root, selector) => all(root).filter((element) => element.matches(selector));
    return within(document, arguments[0]).map((card) => ({
        tag: card.tag,
        in_view: card.getBoundingClientRect().height > 0 && card.getBoundingClientRect().top < window.innerHeight,
        curves: within(card, ".histogram path, path.line").map((path) => path.getAttribute("d")).filter((path) => path),
        images: within(card, "img").map((image) => [image.naturalWidth, image.naturalHeight]),
    }));
"""


@contextlib.contextmanager
def serving(logdir: str | pathlib.Path) -> Iterator[str]:
    """A TensorBoard that shows a folder of runs, as its address."""
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}"]
    options = ["--host=127.0.0.1", "--port=0", "--load_fast=false"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as server:
        try:
            yield next(found[0] for line in server.stderr or () if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()


@contextlib.contextmanager
def headless_chromium() -> Iterator[Any]:
    """Headless Chromium, as Selenium's driver."""
    # Not above: tests that look at nothing run without it.
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1500,1200"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    driver.set_page_load_timeout(_SECONDS)
    driver.set_script_timeout(_SECONDS)
    try:
        yield driver
    finally:
        driver.quit()


def open_page(browser: Any, address: str) -> None:
    """Load a page from the beginning."""
    # A change behind the # alone would not load the page.
    browser.get("about:blank")
    browser.get(address)


def wait_for(browser: Any, condition: Callable[[], Any]) -> Any:
    """What `condition` finds, once it finds something."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, _SECONDS).until(lambda _: condition())


def cards(browser: Any, selector: str) -> list[dict[str, Any]]:
    """The cards of a page: tag, whether it is in view, its curves or histograms, the sizes of its images."""
    return browser.execute_script(_FIND, selector)
