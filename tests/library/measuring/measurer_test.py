"""Measurer: what is added in pieces, what an interruption leaves, and which images are kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.measuring.measurer import Measurer

ARRAYS = ("norms", "signed", "predictions", "labels", "success")
CLASSES, IMAGES = 4, 60
# Of whole numbers, so that logits and gradients are exact, whatever the number of images in a batch.
_RNG = np.random.default_rng(0)
X = _RNG.integers(-9, 10, size=(IMAGES, 5, 5, 1)).astype("float32")
Y = _RNG.integers(CLASSES, size=IMAGES)
WEIGHTS = [_RNG.integers(-9, 10, size=shape).astype("float32") for shape in ((25, CLASSES), (CLASSES,))]


@pytest.fixture(scope="module")
def model():
    """A linear classifier that errs often. Not to be changed."""
    model = keras.Sequential([keras.Input((5, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)])
    model.set_weights(WEIGHTS)
    return model


def measured(model, sizes, **options):
    """A measurer to which the images were added in batches of these sizes."""
    measurer = Measurer(model, **options)
    for stop, size in zip(np.cumsum(sizes), sizes, strict=True):
        measurer.add(X[stop - size : stop], Y[stop - size : stop])
    return measurer


def assert_equal(one, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.usefixtures("eagerly")
def test_an_attribute_attack_of_another_model_is_none_of_ours(model):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.classifier, self.attack = model, "pgd"

        def call(self, x):
            return self.classifier(x)

    own = Own()
    own(X[:1])
    for attack in (None, keras_amm.DeepFool()):
        norms = [keras_amm.evaluate_margins(each, (X, Y), attack, verbose=0).norms for each in (own, model)]
        np.testing.assert_array_equal(*norms)


class TestPieces:
    @pytest.mark.parametrize("sizes", [[20, 20, 20], [7, 33, 20], [1, 1, 58]])
    def test_they_make_the_same_report_as_all_at_once(self, model, sizes):
        whole = keras_amm.evaluate_margins(model, (X, Y), verbose=0)
        assert 0 < np.sum(~whole.correct) < IMAGES and np.all(whole.signed[~whole.correct] < 0)
        measurer = measured(model, sizes)
        report = measurer.report()
        assert_equal(report, whole)
        assert len(measurer) == IMAGES and measurer.margin == pytest.approx(report.margin)
        assert (report.attack, report.units, report.model_name) == (whole.attack, whole.units, whole.model_name)

    def test_a_report_in_between_changes_nothing(self, model):
        measurer = measured(model, [20])
        first = measurer.report()
        measurer.add(X[20:], Y[20:])
        whole = measurer.report()
        assert len(first) == 20
        assert_equal(whole, keras_amm.evaluate_margins(model, (X, Y), verbose=0))
        assert_equal(measurer.report(np.arange(20)), first)

    def test_the_logger_measures_the_same(self, model):
        twin = keras.models.clone_model(model)
        twin.compile(keras.optimizers.SGD(0.0), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        twin.set_weights(WEIGHTS)
        logger = keras_amm.callbacks.MarginLogger((X, Y), batch_size=25)
        twin.fit(X, Y, epochs=1, verbose=0, callbacks=[logger])
        assert_equal(logger.report, keras_amm.evaluate_margins(model, (X, Y), verbose=0))


class TestInterruption:
    """Ctrl-C, or a batch that is not fit, costs that batch alone."""

    @pytest.mark.parametrize("where", ["_search", "_search_labels"])
    def test_the_report_is_of_the_batches_before(self, model, where, monkeypatch):
        # Of the labels in reverse, so that the last batch has many to sign.
        labels = np.argmin(keras.ops.convert_to_numpy(model(X)), axis=1)
        labels[:20] = np.argmax(keras.ops.convert_to_numpy(model(X[:20])), axis=1)
        labels[3] = (labels[3] + 1) % CLASSES
        measurer = Measurer(model)
        measurer.add(X[:20], labels[:20])

        def interrupt(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(measurer, where, interrupt)
            with pytest.raises(KeyboardInterrupt):
                measurer.add(X[20:40], labels[20:40])
        report = measurer.report()
        assert_equal(report, keras_amm.evaluate_margins(model, (X[:20], labels[:20]), verbose=0))
        # It waited for others, and is signed none the less.
        assert report.signed[3] < 0
        measurer.add(X[20:], labels[20:])
        assert_equal(measurer.report(), keras_amm.evaluate_margins(model, (X, labels), verbose=0))

    def test_labels_that_are_not_fit(self, model):
        measurer = measured(model, [30])
        with pytest.raises(ValueError, match=r"Labels must lie in 0\.\.3"):
            measurer.add(X[30:], Y[30:] + CLASSES)
        assert len(measurer) == 30 == len(measurer.report())


class TestNearest:
    @pytest.mark.parametrize("attack", [None, keras_amm.DeepFool(max_iterations=50, refine_steps=10)])
    def test_perturbations_are_those_of_the_search(self, model, attack):
        measurer = measured(model, [25, 35], attack=attack, num_nearest=6)
        report, nearest = measurer.report(), measurer.nearest()
        order = np.argsort(report.norms, kind="stable")[:6]
        np.testing.assert_array_equal(nearest.images, X[order])
        np.testing.assert_array_equal(nearest.norms, report.norms[order])
        norms = np.linalg.norm(nearest.deltas.reshape(6, -1).astype("float64"), axis=1)
        np.testing.assert_allclose(norms, report.norms[order], rtol=1e-6)
        np.testing.assert_array_equal(nearest.labels, Y[order])
        np.testing.assert_array_equal(nearest.predictions, report.predictions[order])
        np.testing.assert_array_equal(nearest.perturbed, np.argmax(model(X[order] + nearest.deltas), axis=1))
        assert np.all(nearest.perturbed != nearest.predictions)

    def test_nothing_is_searched_a_second_time(self, model, monkeypatch):
        measurer = measured(model, [IMAGES], num_nearest=6)
        monkeypatch.setattr(keras_amm.DeepFool, "perturb", None)
        monkeypatch.setattr(keras_amm.DeepFool, "perturb_from", None)
        assert len(measurer.nearest().images) == 6

    def test_of_images_as_the_model_takes_them(self, model):
        measurer = Measurer(model, num_nearest=2)
        measurer.add(tf.constant(X[..., 0], tf.float64), Y)
        nearest = measurer.nearest()
        assert nearest.images.shape == nearest.deltas.shape == (2, 5, 5, 1)
        assert nearest.images.dtype == nearest.deltas.dtype == np.float32

    def test_none(self, model):
        assert measured(model, [IMAGES]).nearest() is None
        flat = keras.Sequential([keras.Input((25,)), keras.layers.Dense(CLASSES)])
        measurer = Measurer(flat, num_nearest=2)
        measurer.add(X.reshape(IMAGES, 25), Y)
        assert len(measurer) == IMAGES and measurer.nearest() is None
