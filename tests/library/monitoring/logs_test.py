"""MarginLogger: what it adds to the logs, who sees it, and what it leaves alone."""

import csv

import keras
import numpy as np
import pytest

import keras_amm
from keras_amm.callbacks import MarginLogger
from tests.library.monitoring.training import (
    IMAGES,
    INPUTS,
    KEYS,
    X,
    Y,
    closed_form,
    compiled,
    fit,
    linear,
    margins_of,
    tensors,
    untrained,
)


class TestLogs:
    def test_they_hold_the_closed_form_of_a_linear_classifier(self):
        model = untrained()
        history = fit(MarginLogger((X, Y)), model=model)
        margins = margins_of(model, X, Y)
        assert 0 < np.sum(margins == 0.0) < IMAGES
        assert history["val_margin"][-1] == pytest.approx(np.mean(margins), rel=1e-4)
        assert history["val_margin_median"][-1] == pytest.approx(np.median(margins), rel=1e-4)
        assert history["val_paper_margin"][-1] == pytest.approx(1.02 * np.mean(closed_form(model, X)), rel=1e-4)
        assert history["val_attack_success"] == [1.0, 1.0]
        assert history["val_margin"][0] != history["val_margin"][1]

    def test_they_are_python_floats(self):
        assert all(type(value) is float for key in KEYS for value in fit(MarginLogger((X, Y)))[key])

    def test_the_attack_is_the_one_given(self):
        model = untrained()
        history = fit(MarginLogger((X, Y), attack=keras_amm.DeepFool(overshoot=0.1)), model=model)
        assert history["val_margin"][-1] == pytest.approx(np.mean(margins_of(model, X, Y, scale=1.1)), rel=1e-4)

    @pytest.mark.usefixtures("eagerly")
    def test_training_is_left_alone(self):
        """Weights and logs are bit for bit those of a training without it, dropout and shuffling included."""

        def train(*callbacks):
            keras.utils.set_random_seed(0)
            model = compiled(keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dropout(0.5), linear()]))
            history = model.fit(X, Y, epochs=2, verbose=0, validation_data=(X, Y), callbacks=list(callbacks)).history
            return {k: v for k, v in history.items() if k not in KEYS}, model.get_weights()

        plain, with_logger = train(), train(MarginLogger(step_freq=1, num_samples=9))
        assert plain[0] == with_logger[0]
        for one, other in zip(plain[1], with_logger[1], strict=True):
            np.testing.assert_array_equal(one, other)

    def test_seconds_include_all_that_it_costs(self):
        logger = MarginLogger((X, Y))
        history = fit(logger)
        assert all(seconds > 0 for seconds in history["val_margin_seconds"])
        assert sum(history["val_margin_seconds"]) == pytest.approx(logger.seconds)
        assert logger.report.seconds < history["val_margin_seconds"][-1]

    def test_the_report_is_kept(self):
        logger = MarginLogger((X, Y))
        history = fit(logger)
        assert len(logger.report) == IMAGES and logger.report.margin == history["val_margin"][-1]

    def test_robust_accuracy_at_radii(self):
        logger = MarginLogger((X, Y), radii=(0.05, 0.5))
        history = fit(logger, epochs=1)
        for radius in (0.05, 0.5):
            assert history[f"val_robust_accuracy_{radius}"] == [np.mean(logger.report.margins > radius)]
        assert 0 < history["val_robust_accuracy_0.5"][0] < history["val_robust_accuracy_0.05"][0] < 1
        with pytest.raises(ValueError, match="`radii` must be finite and at least 0 each"):
            MarginLogger(radii=[-1])

    def test_mixed_precision_is_measured_in_float32(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = compiled(linear())
        finally:
            keras.config.set_dtype_policy("float32")
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        # For half precision Keras wraps the optimizer, which counts the steps.
        history = fit(MarginLogger((X, Y), step_freq=4), model=model)
        assert history["val_paper_margin"][-1] == pytest.approx(1.02 * np.mean(closed_form(model, X)), rel=1e-4)

    def test_an_amm_model_is_measured_like_the_classifier_it_wraps(self):
        model = compiled(
            keras_amm.wrap(linear(), regularizer=keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary"))
        )
        history = fit(MarginLogger(), model=model, validation_data=(X, Y))
        assert history["val_margin"][-1] == pytest.approx(np.mean(margins_of(model.base_model, X, Y)), rel=1e-4)
        assert "margin" in history and "val_loss" in history


class TestReaders:
    """All that reads the logs sees the margins."""

    def test_early_stopping(self):
        """Patience counts epochs, measured or not."""
        model = untrained()
        model.optimizer.learning_rate = 0.0
        stop = keras.callbacks.EarlyStopping("val_margin", mode="max", patience=3)
        assert len(fit(MarginLogger((X, Y), epoch_freq=2), stop, model=model, epochs=9)["val_margin"]) == 4

    def test_model_checkpoint(self, tmp_path):
        path = str(tmp_path / "best.weights.h5")
        best = keras.callbacks.ModelCheckpoint(path, "val_margin", mode="max", save_best_only=True, save_weights_only=1)
        history = fit(MarginLogger((X, Y)), best, epochs=4)
        model = untrained()
        model.load_weights(path)
        assert np.mean(margins_of(model, X, Y)) == pytest.approx(max(history["val_margin"]), rel=1e-4)

    def test_csv_logger_keeps_its_columns_when_resumed(self, tmp_path):
        path = tmp_path / "log.csv"
        model = untrained()
        for first, last in ((0, 3), (3, 5)):
            csv_logger = keras.callbacks.CSVLogger(path, append=True)
            fit(MarginLogger((X, Y), epoch_freq=4), csv_logger, model=model, epochs=last, initial_epoch=first)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["epoch"]) for row in rows] == [0, 1, 2, 3, 4]
        assert rows[0]["val_margin"] == rows[2]["val_margin"] != rows[3]["val_margin"] == rows[4]["val_margin"]
        assert [float(row["val_margin_seconds"]) > 0 for row in rows] == [True, False, False, True, False]

    def test_tensorboard_of_keras_in_the_same_folder(self, tmp_path):
        board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
        history = fit(MarginLogger((X, Y), tmp_path), board, validation_data=(X, Y))
        for folder, tag in (("validation", "epoch_margin"), ("margins", "margin/mean")):
            steps, values = tensors(tmp_path, tag, folder)
            assert steps == [0, 1]
            np.testing.assert_allclose(values, history["val_margin"], rtol=1e-6)

    def test_tensorboard_of_keras_does_not_silence_ours(self, tmp_path):
        # With update_freq it has a condition in force, which drops even its own summaries of epochs.
        board = keras.callbacks.TensorBoard(tmp_path, update_freq=7, write_graph=False)
        fit(MarginLogger((X, Y), tmp_path), board, validation_data=(X, Y))
        assert tensors(tmp_path, "margin/mean")[0] == [0, 1]

    @pytest.mark.parametrize(
        "make",
        [
            lambda path: keras.callbacks.CSVLogger(path / "log.csv"),
            lambda path: keras.callbacks.TensorBoard(path, write_graph=False),
            lambda path: keras.callbacks.History(),
            lambda path: keras.callbacks.EarlyStopping("val_margin", mode="max"),
            lambda path: keras.callbacks.ModelCheckpoint(path / "{epoch}-{val_margin:.2f}.keras"),
        ],
    )
    def test_a_reader_that_comes_first_is_named(self, make, tmp_path, monkeypatch):
        reader = make(tmp_path)
        message = rf"{type(reader).__name__} stands before MarginLogger"
        # These then miss their value, and say so too.
        for kind in (keras.callbacks.EarlyStopping, keras.callbacks.ModelCheckpoint):
            monkeypatch.setattr(kind, "on_epoch_end", lambda *_: None)
        with pytest.warns(UserWarning, match=message):
            fit(reader, MarginLogger((X, Y)), epochs=1)

    def test_one_that_watches_something_else_is_not(self, tmp_path):
        stop = keras.callbacks.EarlyStopping("loss")
        checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}-{loss:.2f}.keras")
        fit(stop, checkpoint, keras.callbacks.TerminateOnNaN(), MarginLogger((X, Y)), epochs=1)


def test_under_mirrored_strategy(mirrored, tmp_path):
    with mirrored.scope():
        model = compiled(linear())
    twin = linear()
    for data in (None, (X, Y)):
        history = fit(MarginLogger(data, tmp_path, step_freq=3), model=model, validation_data=(X, Y))
        twin.set_weights(model.get_weights())
        assert history["val_margin"][-1] == pytest.approx(np.mean(margins_of(twin, X, Y)), rel=1e-4)
        assert history["val_accuracy"][-1] == pytest.approx(np.mean(np.argmax(twin(X), axis=1) == Y), rel=1e-5)
    assert tensors(tmp_path, "margin/mean")[0][:2] == [5, 6]
