"""MarginLogger: which images it measures."""

import numpy as np
import pytest
import tensorflow as tf

from keras_amm.callbacks import MarginLogger
from keras_amm.measuring.batches import labelled_batches
from keras_amm.measuring.samples import choose_samples, subsample
from tests.library.monitoring.training import IMAGES, Batches, X, Y, compiled, data_of, fit, linear, tensors, untrained


class TestData:
    def test_a_subsample_is_the_same_at_every_epoch(self):
        """Even of a data set that shuffles: without learning, nothing changes."""
        data = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(IMAGES).batch(7)
        model = untrained()
        model.optimizer.learning_rate = 0.0
        margins = fit(MarginLogger(data, num_samples=5), model=model, epochs=3)["val_margin"]
        assert margins[0] == margins[1] == margins[2]
        assert margins[0] not in fit(MarginLogger(data, num_samples=5, seed=1), model=model)["val_margin"]

    def test_a_subsample_does_not_depend_on_the_form_of_the_data(self):
        model = untrained()
        forms = [(X, Y), (tf.constant(X), Y), Batches(X, Y, 9), tf.data.Dataset.from_tensor_slices((X, Y))]
        drawn = [next(choose_samples(form, model, num_samples=12, seed=4).batches()) for form in forms]
        for x, y in drawn[1:]:
            np.testing.assert_array_equal(x, drawn[0][0])
            np.testing.assert_array_equal(y, drawn[0][1])

    def test_every_image_is_as_likely_to_be_drawn(self):
        index = np.arange(30)
        model = untrained()
        batches = [labelled_batches((index[:, None], index), model, 20) for _ in range(500)]
        drawn = [subsample(source, 6, seed)[1] for seed, source in enumerate(batches)]
        assert all(np.all(np.diff(d) > 0) for d in drawn)  # distinct, and in the order of the data
        counts = np.bincount(np.concatenate(drawn), minlength=30)
        # Binomial: 500 times 6 of 30.
        assert np.all(np.abs(counts - 100) < 4 * np.sqrt(500 * 0.2 * 0.8))

    def test_fewer_images_than_asked_for_are_all_measured(self):
        logger = MarginLogger((X, Y), num_samples=1000)
        fit(logger, epochs=1)
        np.testing.assert_array_equal(logger.report.labels, Y)

    @pytest.mark.usefixtures("eagerly")
    def test_a_stream_is_measured_like_arrays(self, tmp_path):
        """The images shown too; in batches that are joined."""
        x, y = data_of(90, (5, 5, 1), seed=2)
        model = compiled(linear((5, 5, 1)))
        weights = model.get_weights()
        stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        histories = []
        for name, data in (("arrays", (x, y)), ("stream", stream)):
            model.set_weights(weights)
            logger = MarginLogger(data, tmp_path / name, num_images=2)
            histories.append(model.fit(x, y, verbose=0, shuffle=False, callbacks=[logger]).history)
        assert histories[0]["val_margin"] == pytest.approx(histories[1]["val_margin"])
        one, other = (tensors(tmp_path / name, "smallest_margins")[1][0][2] for name in ("arrays", "stream"))
        assert tf.reduce_all(tf.io.decode_png(one) == tf.io.decode_png(other))

    def test_one_logger_serves_several_fits(self):
        logger = MarginLogger((X, Y), num_samples=10)
        shapes = [fit(logger, epochs=1)["val_margin"] for _ in range(2)]
        assert shapes[0] == shapes[1] and len(logger.report) == 10

    @pytest.mark.parametrize("which", ["arrays", "weights", "split", "dataset", "steps", "py_dataset"])
    def test_validation_data_of_fit(self, which):
        x, y = data_of(40, seed=5)
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
        options, measured = {
            "arrays": ({"validation_data": (x, y)}, y),
            "weights": ({"validation_data": (x, y, np.ones(40))}, y),
            "split": ({"validation_split": 0.2}, Y[-10:]),
            "dataset": ({"validation_data": batches}, y),
            "steps": ({"validation_data": batches.repeat(), "validation_steps": 2}, y[:16]),
            "py_dataset": ({"validation_data": Batches(x, y)}, y),
        }[which]
        logger = MarginLogger()
        history = fit(logger, **options)
        np.testing.assert_array_equal(logger.report.labels, measured)
        assert history["val_accuracy"][-1] == pytest.approx(logger.report.accuracy)

    def test_no_validation_data(self):
        with pytest.raises(ValueError, match=r"fit has not validated .* MarginLogger\(\(x, y\)\)"):
            fit(MarginLogger())

    def test_a_generator_cannot_be_read_twice(self):
        def forever():
            while True:
                yield X, Y

        with pytest.raises(ValueError, match=r"cannot be read a second time.*GeneratorDataAdapter"):
            fit(MarginLogger(), validation_data=forever(), validation_steps=1)
