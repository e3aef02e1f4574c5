"""A run of examples/mnist.py, looked at in a browser through a running TensorBoard."""

import csv
import pathlib
import re
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from paper.tensorboard_browser import CHROMIUM, DRIVER, cards, headless_chromium, open_page, serving, wait_for

EXAMPLE = pathlib.Path(__file__).parents[3] / "examples" / "mnist.py"
EPOCHS = 3

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
    with serving(run / "tensorboard") as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    pytest.importorskip("selenium.webdriver")
    with headless_chromium() as driver:
        yield driver


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
        found = cards(browser, "tf-histogram-loader")
        return found if found and all(len(card["curves"]) == EPOCHS for card in found) else None

    drawn_cards = wait_for(browser, drawn)
    assert [card["tag"] for card in drawn_cards] == ["margin/correct", "margin/misclassified"]
    for card in drawn_cards:
        points = [re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", curve) for curve in card["curves"]]
        assert all(len({height for _, height in curve}) > 5 for curve in points)


def test_images(run, url, browser):
    """They are shown as large as they were written."""
    open_page(browser, f"{url}#images")

    def loaded():
        found = cards(browser, "tf-image-loader")
        ready = [card["images"] and card["images"][0][0] for card in found]
        return found if found and all(ready) else None

    loaded_cards = wait_for(browser, loaded)
    events = EventAccumulator(str(run / "tensorboard" / "margins"), size_guidance={"tensors": 0})
    events.Reload()
    for card, tag in zip(loaded_cards, ("robust_accuracy", "smallest_margins"), strict=True):
        assert card["tag"] == tag
        written = events.Tensors(tag)[-1].tensor_proto.string_val
        assert card["images"] == [[int(size) for size in written[:2]]]
