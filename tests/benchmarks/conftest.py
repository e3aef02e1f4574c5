"""Fixtures of the benchmarks' tests."""

import keras
import pytest

from benchmarks.helps import networks


@pytest.fixture
def linear_networks(monkeypatch):
    """Each network of a cell is a linear classifier, whose margins have a closed form; a list of those built so far."""
    built = []

    def build(name, shape, num_classes):
        built.append(keras.Sequential([keras.Input(shape), keras.layers.Dense(num_classes)]))
        return built[-1]

    monkeypatch.setattr(networks, "build", build)
    return built
