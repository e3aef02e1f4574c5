"""Images of several sizes: every batch counts as if it were measured by itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.measuring.measurer import Measurer

SIZES = (8, 12, 12, 8, 9)
_RNG = np.random.default_rng(0)
BATCHES = [(_RNG.random((10, s, s, 1), dtype="float32"), _RNG.integers(0, 3, 10)) for s in SIZES]
SPEC = tf.TensorSpec((None, None, None, 1), tf.float32), tf.TensorSpec((None,), tf.int64)
NAMES = ("norms", "signed", "predictions", "labels", "success")


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return len(BATCHES)

    def __getitem__(self, index):
        return BATCHES[index]


def _one_by_one():
    for x, y in BATCHES:
        yield from zip(x, y, strict=True)


def _objects():
    images = np.empty(50, dtype=object)
    images[:] = [image for image, _ in _one_by_one()]
    return images, np.concatenate([y for _, y in BATCHES])


def _data_set():
    batches = tf.data.Dataset.from_generator(lambda: iter(BATCHES), output_signature=SPEC)
    # Keras warns where it cannot know when an epoch ends.
    return batches.apply(tf.data.experimental.assert_cardinality(len(BATCHES)))


def _single_images():
    spec = tf.TensorSpec((None, None, 1), tf.float32), tf.TensorSpec((), tf.int64)
    return tf.data.Dataset.from_generator(_one_by_one, output_signature=spec)


FORMS = {
    "data set": _data_set,
    "single images": _single_images,
    "ragged": lambda: _single_images().ragged_batch(20),
    "PyDataset": Sequence,
    "objects": _objects,
    "list": lambda: ([*_objects()[0]], _objects()[1]),
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, None, 1))
    hidden = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    model.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.fixture(scope="module")
def expected(model):
    """The batches, each measured by itself; some images are misclassified."""
    reports = [keras_amm.evaluate_margins(model, batch, verbose=0) for batch in BATCHES]
    assert np.any(keras_amm.MarginReport.concatenate(reports).signed < 0)
    return keras_amm.MarginReport.concatenate(reports)


def assert_same(report, expected):
    for name in NAMES:
        np.testing.assert_allclose(getattr(report, name), getattr(expected, name), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_evaluate_margins(model, expected, form):
    assert_same(keras_amm.evaluate_margins(model, FORMS[form](), verbose=0), expected)


@pytest.mark.parametrize("form", ["data set", "PyDataset", "objects"])
def test_margin_logger(model, expected, form, tmp_path):
    given = keras_amm.callbacks.MarginLogger(FORMS[form](), tmp_path, num_images=4)
    history = model.fit(_data_set(), verbose=0, callbacks=[given]).history
    assert_same(given.report, expected)
    assert history["val_margin"] == [pytest.approx(expected.margin, rel=1e-4)]


def test_margin_logger_of_the_validation_data(model, expected):
    logger = keras_amm.callbacks.MarginLogger()
    model.fit(_data_set(), validation_data=_data_set(), verbose=0, callbacks=[logger])
    assert_same(logger.report, expected)


@pytest.mark.parametrize("form", ["data set", "single images", "objects"])
def test_a_subsample(model, expected, form):
    logger = keras_amm.callbacks.MarginLogger(FORMS[form](), num_samples=20)
    model.fit(_data_set(), verbose=0, callbacks=[logger])
    assert len(logger.report) == 20
    # Every image drawn is one of the images, and none is drawn twice.
    found = np.argmin(np.abs(logger.report.norms[:, None] - expected.norms[None]), axis=1)
    assert np.all(np.diff(found) > 0)
    np.testing.assert_allclose(logger.report.signed, expected.signed[found], rtol=1e-4, atol=1e-6)


def test_nearest_images(model, expected):
    measurer = Measurer(model, num_nearest=6)
    for x, y in BATCHES:
        measurer.add(x, y)
    nearest, order = measurer.nearest(), np.argsort(expected.norms, kind="stable")[:6]
    np.testing.assert_allclose(nearest.norms, expected.norms[order], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(nearest.deltas.reshape(6, -1), axis=1), nearest.norms, rtol=1e-4)
    assert np.all(nearest.perturbed != nearest.predictions)
    for image, index in zip(nearest.images, order, strict=True):
        own = _objects()[0][index]
        assert image.shape[:2] == (max(SIZES[i // 10] for i in order),) * 2
        np.testing.assert_array_equal(image[: len(own), : len(own)], own)
        assert np.sum(np.abs(image)) == pytest.approx(np.sum(np.abs(own)), rel=1e-5)


def test_all_sizes_are_searched_by_one_compiled_function(model):
    traced = []

    class Counting(keras_amm.DeepFool):
        def perturb_from(self, classifier, clean, labels=None):
            traced.append(clean.x.shape)
            return super().perturb_from(classifier, clean, labels)

    keras_amm.evaluate_margins(model, _data_set(), Counting(), verbose=0)
    assert [shape.as_list() for shape in traced] == 2 * [[None, None, None, 1]]


@pytest.mark.parametrize("labels", [np.arange(20) % 3, np.eye(3)[np.arange(20) % 3]], ids=["indices", "one-hot"])
def test_gray_images_may_lack_their_channel_in_a_data_set(labels):
    """Keras's `fit` and `predict` add it; their batches have the rank of a single image with a channel."""
    gray = np.random.default_rng(1).random((20, 8, 8), dtype="float32")
    network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    expected = keras_amm.evaluate_margins(network, (gray[..., None], labels), verbose=0)
    data = tf.data.Dataset.from_tensor_slices((gray, labels)).batch(8)
    np.testing.assert_allclose(keras_amm.evaluate_margins(network, data, verbose=0).norms, expected.norms, rtol=1e-5)
    loss = keras.losses.SparseCategoricalCrossentropy if labels.ndim == 1 else keras.losses.CategoricalCrossentropy
    network.compile(keras.optimizers.SGD(0.0), loss(from_logits=True))
    logger = keras_amm.callbacks.MarginLogger()
    history = network.fit(gray, labels, validation_data=(gray, labels), callbacks=[logger], verbose=0).history
    assert history["val_margin"][0] == pytest.approx(expected.margin, rel=1e-5)
