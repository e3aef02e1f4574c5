"""How alike searches select, against counts by hand, and on a network where they cannot differ."""

import keras
import numpy as np
import pytest

import keras_amm
from benchmarks import search_fidelity


def test_figures():
    # Selected by both, selected by either, equal, cosine, the exact penalty, the other's, and so the medians.
    rows = np.array([[3, 4, 0, 0.9, 2.0, 2.0, 1.0, 1.5], [4, 4, 1, 1.0, 2.0, 3.0, 1.0, 0.7]])
    assert search_fidelity._figures(rows) == {
        "same": "87.5%",
        "equal_batches": "50.0%",
        "cosine": "0.9500",
        "least_cosine": "0.900",
        "penalty": "1.2500",
        "median": "1.1000",
    }


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("setting", search_fidelity.SETTINGS)
def test_of_two_classes_of_a_linear_network_all_searches_agree(setting):
    # The margin is |w x + b| / ||w||, so the logits rank the samples as their margins do.
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = keras_amm.wrap(network, search_fidelity.SETTINGS[setting]())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(20, 3)).astype("float32") for _ in range(2)]
    # A few are wrong; if half of them were, two classes would have no penalty.
    batches = [(x, np.where(np.arange(20) < 3, 1, 0) ^ np.argmax(network(x), axis=1)) for x in images]
    model.train_on_batch(*batches[0])
    for search, figures in search_fidelity.compare(model, setting, batches).items():
        if search == "screening 0.3" or (search, setting) == ("rough", "avg-exp"):
            # Of the 17 correct samples, six or 14 are searched.
            assert float(figures["cosine"]) > 0.5
        else:
            assert (figures["same"], figures["cosine"], figures["penalty"]) == ("100.0%", "1.0000", "1.0000"), search
