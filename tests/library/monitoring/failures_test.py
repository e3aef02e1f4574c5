"""MarginLogger: what it refuses before training, and what does not end a training."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amm.callbacks import MarginLogger
from tests.library.monitoring.training import CLASSES, INPUTS, Batches, X, Y, fit, untrained


class TestFailure:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ((X[:, :3], Y), "Images do not fit the model"),
            ((X, Y + CLASSES), "Labels must lie in 0..3"),
            ((X, None), "there are none"),
            ((X[:0], Y[:0]), "no images to measure"),
            (tf.data.Dataset.from_tensors((X, Y)).repeat(), "finite data set"),
        ],
    )
    @pytest.mark.parametrize("num_samples", [None, 20])
    def test_unfit_data_are_refused_before_training(self, data, message, num_samples):
        model = untrained()
        before = model.get_weights()
        with pytest.raises(ValueError, match=message):
            fit(MarginLogger(data, num_samples=num_samples), model=model)
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_class_names_that_are_too_few_too(self, tmp_path):
        """Also where the images are all of classes that have one."""
        model = untrained()
        model.set_weights([np.zeros((INPUTS, CLASSES)), np.array([3.0, 0.0, 0.0, 0.0])])
        with pytest.raises(ValueError, match=r"Every class needs a name. Received: 3 class_names, and class 3"):
            fit(MarginLogger((X, 0 * Y), tmp_path, class_names=["a", "b", "c"]), model=model)
        assert int(model.optimizer.iterations) == 0

    def test_what_fails_later_does_not_end_the_training(self):
        data = Batches(X, Y)

        class Break(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                data.fails = epoch == 1

        with pytest.warns(UserWarning, match=r"could not be measured after epoch 2; .* OSError: the disk is gone"):
            margins = fit(MarginLogger(data), Break(), epochs=3)["val_margin"]
        np.testing.assert_array_equal(np.isnan(margins), [False, True, False])

    def test_margins_are_logged_when_they_cannot_be_written(self, tmp_path):
        (tmp_path / "margins").write_text("a file where the folder should be")
        with pytest.warns(UserWarning, match="could not be written after epoch 1; training goes on"):
            history = fit(MarginLogger((X, Y), tmp_path), epochs=1)
        assert np.all(np.isfinite(history["val_margin"]))

    def test_tensorboard_is_asked_for_where_it_is_missing(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorboard", None)
        with pytest.raises(ImportError, match=r"pip install tensorboard matplotlib"):
            MarginLogger((X, Y), tmp_path)
        fit(MarginLogger((X, Y)), epochs=1)

    @pytest.mark.parametrize(
        "argument",
        [
            {"epoch_freq": 0},
            {"epoch_freq": "2"},
            {"step_freq": 0},
            {"num_samples": 0},
            {"batch_size": 2.5},
            {"num_images": -1},
        ],
    )
    def test_arguments_out_of_range(self, argument):
        ((name, value),) = argument.items()
        with pytest.raises(ValueError, match=rf"`{name}` must be a whole number .* Received: {name}={value!r}"):
            MarginLogger((X, Y), **argument)

    def test_labels_as_an_argument_of_their_own(self):
        with pytest.raises(
            TypeError, match=r"`log_dir` must be a path.* type ndarray. Images and labels are one argument"
        ):
            MarginLogger(X, Y)
        with pytest.raises(TypeError, match=r"Received: log_dir of type int\.$"):
            MarginLogger((X, Y), 3)

    def test_attack_of_another_type(self):
        with pytest.raises(TypeError, match=r"`attack` must be a keras_amm.DeepFool"):
            MarginLogger((X, Y), attack="fgsm")
