"""evaluate_margins on what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amm.margins import evaluate_margins
from tests.library.measuring.problems import CLASSES, INPUTS, Batches, data_of, linear, weights_of


@pytest.fixture(scope="module")
def problem():
    """A classifier, images and labels."""
    return linear(*weights_of()), *data_of()


class TestErrors:
    @pytest.mark.parametrize(
        ("form", "got"),
        [
            (lambda x, y: x, "ndarray of shape (50, 6)"),
            (lambda x, y: (x,), "tuple of 1"),
            (lambda x, y: (x, None), "None"),
            (lambda x, y: tf.data.Dataset.from_tensor_slices(x).batch(8), "TensorSpec(shape=(None, 6)"),
            (lambda x, y: tf.data.Dataset.from_tensor_slices((x,)).batch(8), "TensorSpec(shape=(None, 6)"),
            (lambda x, y: {"x": x, "y": y}, "dict"),
            (lambda x, y: None, "None"),
            (lambda x, y: iter([(x, y)]), "list_iterator"),
        ],
    )
    def test_no_labels(self, problem, form, got):
        model, x, y = problem
        with pytest.raises(ValueError, match=r"labels, and there are none.*perturb\(model, x\)") as caught:
            evaluate_margins(model, form(x, y), verbose=0)
        assert got in str(caught.value)

    @pytest.mark.parametrize(
        "form",
        [
            lambda x, y: (x[:0], y[:0]),
            lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).take(0),
            lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(4).take(0),
            lambda x, y: Batches(x[:0], y[:0], 4),
        ],
    )
    def test_empty(self, problem, form):
        model, x, y = problem
        with pytest.raises(ValueError, match=r"no images.*empty data"):
            evaluate_margins(model, form(x, y), verbose=0)

    @pytest.mark.parametrize(
        ("form", "message"),
        [
            (lambda x, y: (x, y[:-1]), r"equally many.*\(50, 6\).*\(49,\)"),
            (lambda x, y: (x, y + 1), "0..3.*such as 4"),
            (lambda x, y: (x, y + 0.5), "whole numbers"),
            (lambda x, y: (x, np.stack([y, y], 1)), r"\[batch, 4\].*\(None, 2\)"),
            (lambda x, y: (np.where(x > 1, np.nan, x), y), "finite"),
            (lambda x, y: (x[:, :3], y), r"\(None, 6\).*\(50, 3\)"),
            (lambda x, y: ([tf.constant(x), tf.constant(x)], y), "one array of images.*2 arrays"),
            (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(4).repeat(), "finite.*repeats for ever"),
        ],
    )
    def test_data(self, problem, form, message):
        model, x, y = problem
        with pytest.raises(ValueError, match=message):
            evaluate_margins(model, form(x, y), verbose=0)

    @pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
    def test_batch_size(self, problem, batch_size):
        model, x, y = problem
        with pytest.raises(ValueError, match=f"batch_size={batch_size}"):
            evaluate_margins(model, (x, y), batch_size=batch_size, verbose=0)

    def test_verbose(self, problem):
        model, x, y = problem
        with pytest.raises(ValueError, match="verbose='loud'"):
            evaluate_margins(model, (x, y), verbose="loud")

    def test_attack(self, problem):
        model, x, y = problem
        with pytest.raises(TypeError, match="Received: attack of type str"):
            evaluate_margins(model, (x, y), attack="deepfool", verbose=0)

    def test_model(self, problem):
        _, x, y = problem
        with pytest.raises(TypeError, match="Keras model"):
            evaluate_margins(lambda x: x, (x, y), verbose=0)
        with pytest.raises(ValueError, match="regression targets"):
            evaluate_margins(keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dense(1)]), (x, y + 0.5), verbose=0)
        with pytest.raises(ValueError, match="must be built"):
            evaluate_margins(keras.Sequential([keras.layers.Dense(CLASSES)]), (x, y), verbose=0)
