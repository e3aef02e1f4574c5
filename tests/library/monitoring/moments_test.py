"""MarginLogger: after which epochs and steps it measures, resumed trainings and unbuilt models included."""

import keras
import numpy as np
import pytest

from keras_amm.callbacks import MarginLogger
from tests.library.monitoring.training import (
    CLASSES,
    IMAGES,
    X,
    Y,
    closed_form,
    compiled,
    fit,
    linear,
    tensors,
    untrained,
)


class TestWhen:
    def test_epochs_between_hold_the_last_values(self):
        history = fit(MarginLogger((X, Y), epoch_freq=3), epochs=7)
        margins = history["val_margin"]
        # The first epoch is measured in any case.
        assert margins[0] == margins[1] != margins[2] == margins[3] == margins[4] != margins[5] == margins[6]
        assert [s > 0 for s in history["val_margin_seconds"]] == [True, False, True, False, False, True, False]

    def test_chosen_epochs(self):
        history = fit(MarginLogger((X, Y), epoch_freq=[2, 4]), epochs=5)
        assert [s > 0 for s in history["val_margin_seconds"]] == [True, True, False, True, False]

    @pytest.mark.parametrize(("together", "expected"), [(1, [4, 5, 8, 10]), (3, [5, 8, 10])])
    def test_steps(self, together, expected, tmp_path):
        """5 steps an epoch, of which `together` pass between two calls."""
        model = untrained() if together == 1 else compiled(linear(), steps_per_execution=together)
        history = fit(MarginLogger((X, Y), tmp_path, step_freq=4), model=model)
        steps, means = tensors(tmp_path, "margin/mean")
        assert steps == expected
        assert means[-1] == pytest.approx(history["val_margin"][-1])

    def test_an_epoch_that_ends_on_a_step_is_measured_once(self, tmp_path):
        fit(MarginLogger((X, Y), tmp_path, step_freq=5))
        assert tensors(tmp_path, "margin/mean")[0] == [5, 10]

    def test_steps_of_validation_data_are_measured_when_fit_has_validated(self, tmp_path):
        fit(MarginLogger(log_dir=tmp_path, step_freq=2), validation_data=(X, Y))
        assert tensors(tmp_path, "margin/mean")[0] == [5, 6, 8, 10]

    def test_steps_go_on_in_a_second_fit(self, tmp_path):
        # Whose updates are fewer than its steps.
        model = compiled(linear(), keras.optimizers.SGD(0.1, gradient_accumulation_steps=5))
        for _ in range(2):
            fit(MarginLogger((X, Y), tmp_path, step_freq=100), model=model, epochs=1)
        assert tensors(tmp_path, "margin/mean")[0] == [5, 10]

    def test_a_resumed_run_continues(self, tmp_path):
        """Stopped in its third epoch, it goes on from the second, and adds to what was written."""

        class Stop(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                if epoch == 2:
                    raise KeyboardInterrupt

        # Its own model, as Keras leaves the epoch to resume from in it.
        model = compiled(linear())

        def train(*others):
            loggers = [MarginLogger((X, Y), tmp_path / "epochs"), MarginLogger((X, Y), tmp_path / "steps", step_freq=5)]
            fit(*loggers, keras.callbacks.BackupAndRestore(tmp_path / "backup"), *others, model=model, epochs=3)

        with pytest.raises(KeyboardInterrupt):
            train(Stop())
        before = set(tmp_path.rglob("events*"))
        train()
        assert before < set(tmp_path.rglob("events*"))
        assert tensors(tmp_path / "epochs", "margin/mean")[0] == [0, 1, 2]
        assert tensors(tmp_path / "steps", "margin/mean")[0] == [5, 10, 15]


@pytest.mark.usefixtures("eagerly")
class TestUnbuilt:
    """Keras builds a model without an input only with the first batch of `fit`."""

    @staticmethod
    def model():
        return compiled(keras.Sequential([keras.layers.Dense(CLASSES)]))

    def test_it_is_measured_like_any_other(self, tmp_path):
        model = self.model()
        history = fit(MarginLogger((X, Y), tmp_path, step_freq=1), model=model, epochs=1)
        assert history["val_paper_margin"][-1] == pytest.approx(1.02 * np.mean(closed_form(model, X)), rel=1e-4)
        assert tensors(tmp_path, "margin/mean")[0] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("batch_size", [10, IMAGES])
    def test_unfit_data_are_refused_after_the_first_batch(self, batch_size):
        model = self.model()
        with pytest.raises(ValueError, match=r"Labels must lie in 0..3"):
            model.fit(X, Y, batch_size=batch_size, callbacks=[MarginLogger((X, Y + CLASSES))], verbose=0)
        assert int(model.optimizer.iterations) == 1
