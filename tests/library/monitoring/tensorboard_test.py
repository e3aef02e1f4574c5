"""A run with a MarginLogger, looked at in a browser through a running TensorBoard."""

import csv
import re

import keras
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_amm.callbacks import MarginLogger
from paper.tensorboard_browser import CHROMIUM, DRIVER, cards, headless_chromium, open_page, serving, wait_for
from tests.library.monitoring.training import compiled, data_of, linear

EPOCHS = 3

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs Chromium and its driver; on Debian: apt-get install chromium chromium-driver",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run."""
    out = tmp_path_factory.mktemp("run")
    shape = (8, 8, 1)
    x, y = data_of(100, shape)
    callbacks = [MarginLogger((x, y), out / "tensorboard"), keras.callbacks.CSVLogger(out / "history.csv")]
    compiled(linear(shape)).fit(x, y, batch_size=50, epochs=EPOCHS, verbose=0, callbacks=callbacks)
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
