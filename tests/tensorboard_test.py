"""A run of examples/mnist.py, looked at in a browser through a running TensorBoard."""

import csv
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
EXAMPLE = pathlib.Path(__file__).parents[1] / "examples" / "mnist.py"
EPOCHS = 3
# TensorBoard's older pages are made of nested web components, each with a document of its own.
FIND = """
    const shadow = (element) => element.shadowRoot ? all(element.shadowRoot) : [];
    const all = (root) => [
        ...shadow(root), ...[...root.querySelectorAll("*")].flatMap((element) => [element, ...shadow(element)])];
    const within = (root, selector) => all(root).filter((element) => element.matches(selector));
    return within(document, arguments[0]).map((card) => ({
        tag: card.tag,
        curves: within(card, ".histogram path").map((path) => path.getAttribute("d")),
        images: within(card, "img").map((image) => [image.naturalWidth, image.naturalHeight]),
    }));
"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs Chromium and its driver; on Debian: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run."""
    out = tmp_path_factory.mktemp("run")
    sizes = ["--num_train=300", f"--epochs={EPOCHS}", "--log_margins=100", "--eval_margins=100"]
    command = [sys.executable, EXAMPLE, "--model=mlp-800", "--gradient=boundary", f"--out={out}", *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if "is not prepared in" in done.stderr:
        pytest.skip("needs MNIST as prepared by tensorflow-datasets; TFDS_DATA_DIR names the folder")
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def url(run):
    """The address of a TensorBoard that shows the run."""
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={run / 'tensorboard'}"]
    options = ["--host=127.0.0.1", "--port=0", "--load_fast=false"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as server:
        try:
            yield next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1500,1200"):
        options.add_argument(f"--{argument}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    driver.set_page_load_timeout(300)
    driver.set_script_timeout(300)
    yield driver
    driver.quit()


def wait_for(browser, condition):
    """What `condition` finds, once it finds something."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(browser, 300).until(lambda _: condition())


def open_page(browser, address):
    # A change behind the # alone would not load the page.
    browser.get("about:blank")
    browser.get(address)


def test_scalars(run, url, browser):
    """The table below each curve shows what the logs say of the last epoch."""
    open_page(browser, f"{url}?tagFilter=^margin/(mean|median)$#timeseries")

    def rows():
        cards = [card.text.split("\n") for card in browser.find_elements("css selector", "card-view")]
        found = {card[1]: card[-4:-1] for card in cards if card[-5:-4] == ["margins"]}
        return found if len(found) == 2 else None

    shown = wait_for(browser, rows)
    with (run / "history.csv").open(newline="") as file:
        last = [*csv.DictReader(file)][-1]
    for tag, column in (("/mean", "val_margin"), ("/median", "val_margin_median")):
        _, value, step = shown[tag]
        assert float(value) == pytest.approx(float(last[column]), abs=1e-4)
        assert int(step) == int(last["epoch"]) == EPOCHS - 1


def test_histograms(url, browser):
    """One outline for each epoch, of the correct and of the misclassified images."""
    open_page(browser, f"{url}#histograms")

    def drawn():
        cards = browser.execute_script(FIND, "tf-histogram-loader")
        return cards if cards and all(len(card["curves"]) == EPOCHS for card in cards) else None

    cards = wait_for(browser, drawn)
    assert [card["tag"] for card in cards] == ["margin/correct", "margin/misclassified"]
    for card in cards:
        points = [re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", curve) for curve in card["curves"]]
        assert all(len({height for _, height in curve}) > 5 for curve in points)


def test_images(run, url, browser):
    """They are shown as large as they were written."""
    open_page(browser, f"{url}#images")

    def loaded():
        cards = browser.execute_script(FIND, "tf-image-loader")
        ready = [card["images"] and card["images"][0][0] for card in cards]
        return cards if cards and all(ready) else None

    cards = wait_for(browser, loaded)
    events = EventAccumulator(str(run / "tensorboard" / "margins"), size_guidance={"tensors": 0})
    events.Reload()
    for card, tag in zip(cards, ("robust_accuracy", "smallest_margins"), strict=True):
        assert card["tag"] == tag
        written = events.Tensors(tag)[-1].tensor_proto.string_val
        assert card["images"] == [[int(size) for size in written[:2]]]
