"""MarginLogger: what it measures, who sees it, what it writes, and what it leaves alone."""

import csv
import functools
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import keras_amm
from keras_amm.callbacks import MarginLogger
from keras_amm.measuring.batches import labelled_batches
from keras_amm.measuring.measurer import Measurer
from keras_amm.measuring.samples import fixed_samples, subsample

INPUTS, CLASSES, IMAGES = 6, 4, 50
KEYS = {"val_margin", "val_margin_median", "val_attack_success", "val_margin_seconds"}


def data_of(number=IMAGES, shape=(INPUTS,), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(number, *shape)).astype("float32"), rng.integers(CLASSES, size=number).astype("int32")


X, Y = data_of()


def linear(shape=(INPUTS,)):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(CLASSES)])


def compiled(model, optimizer=None, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, metrics=["accuracy"], **options)
    return model


@functools.cache
def shared():
    """One model for most tests, and its first weights: one model means one compilation."""
    keras.utils.set_random_seed(3)
    model = compiled(linear())
    return model, model.get_weights()


def untrained():
    model, weights = shared()
    model.set_weights(weights)
    model.optimizer.iterations.assign(0)
    model.optimizer.learning_rate = 0.1
    keras.utils.set_random_seed(3)
    return model


def fit(*callbacks, model=None, epochs=2, **options):
    model = model or untrained()
    return model.fit(X, Y, batch_size=10, epochs=epochs, verbose=0, callbacks=[*callbacks], **options).history


def closed_form(model, x):
    """Distance to the nearest boundary of a linear classifier, in float64."""
    weights, bias = (np.asarray(w, "float64") for w in model.get_weights())
    logits = x.astype("float64") @ weights + bias
    top = np.argmax(logits, axis=1)
    gap = logits[np.arange(len(x)), top][:, None] - logits
    norm = np.linalg.norm(weights[:, top].T[:, :, None] - weights[None], axis=1)
    return np.min(np.divide(gap, norm, out=np.full_like(gap, np.inf), where=gap > 0), axis=1)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size=20):
        super().__init__()
        self.parts, self.size, self.fails = (x, y), size, False

    def __len__(self):
        return -(-len(self.parts[1]) // self.size)

    def __getitem__(self, index):
        if self.fails:
            raise OSError("the disk is gone")
        return tuple(part[index * self.size : (index + 1) * self.size] for part in self.parts)


def events(log_dir, folder="margins"):
    accumulator = EventAccumulator(str(pathlib.Path(log_dir, folder)), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def tensors(log_dir, tag, folder="margins"):
    """Of a tag, the steps and the values."""
    found = events(log_dir, folder).Tensors(tag)
    return [event.step for event in found], [tf.make_ndarray(event.tensor_proto) for event in found]


class TestLogs:
    def test_they_hold_the_closed_form_of_a_linear_classifier(self):
        model = untrained()
        history = fit(MarginLogger((X, Y)), model=model)
        distances = 1.02 * closed_form(model, X)  # overshoot included
        assert history["val_margin"][-1] == pytest.approx(np.mean(distances), rel=1e-4)
        assert history["val_margin_median"][-1] == pytest.approx(np.median(distances), rel=1e-4)
        assert history["val_attack_success"] == [1.0, 1.0]
        assert history["val_margin"][0] != history["val_margin"][1]

    def test_they_are_python_floats(self):
        assert all(type(value) is float for key in KEYS for value in fit(MarginLogger((X, Y)))[key])

    def test_the_attack_is_the_one_given(self):
        model = untrained()
        history = fit(MarginLogger((X, Y), attack=keras_amm.DeepFool(overshoot=0.5)), model=model)
        assert history["val_margin"][-1] == pytest.approx(1.5 * np.mean(closed_form(model, X)), rel=1e-4)

    def test_training_is_left_alone(self):
        """Weights and logs are bit for bit those of a training without it, dropout and shuffling included."""

        def train(*callbacks):
            keras.utils.set_random_seed(0)
            model = compiled(keras.Sequential([keras.Input((INPUTS,)), keras.layers.Dropout(0.5), linear()]))
            history = model.fit(X, Y, epochs=3, verbose=0, validation_data=(X, Y), callbacks=list(callbacks)).history
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
        assert len(logger.report) == IMAGES and logger.report.mean == history["val_margin"][-1]

    def test_mixed_precision_is_measured_in_float32(self):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = compiled(linear())
        finally:
            keras.config.set_dtype_policy("float32")
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        # For half precision Keras wraps the optimizer, which counts the steps.
        history = fit(MarginLogger((X, Y), step_freq=4), model=model)
        assert history["val_margin"][-1] == pytest.approx(1.02 * np.mean(closed_form(model, X)), rel=1e-4)

    def test_an_amm_model_is_measured_like_the_classifier_it_wraps(self):
        model = compiled(keras_amm.wrap(linear(), regularizer=keras_amm.MarginRegularizer(gradient="boundary")))
        history = fit(MarginLogger(), model=model, validation_data=(X, Y))
        assert history["val_margin"][-1] == pytest.approx(1.02 * np.mean(closed_form(model.base_model, X)), rel=1e-4)
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
        assert 1.02 * np.mean(closed_form(model, X)) == pytest.approx(max(history["val_margin"]), rel=1e-4)

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
        drawn = [next(fixed_samples(form, model, num_samples=12, seed=4).batches()) for form in forms]
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


class TestUnbuilt:
    """Keras builds a model without an input only with the first batch of `fit`."""

    @staticmethod
    def model():
        return compiled(keras.Sequential([keras.layers.Dense(CLASSES)]))

    def test_it_is_measured_like_any_other(self, tmp_path):
        model = self.model()
        history = fit(MarginLogger((X, Y), tmp_path, step_freq=1), model=model, epochs=1)
        assert history["val_margin"][-1] == pytest.approx(1.02 * np.mean(closed_form(model, X)), rel=1e-4)
        assert tensors(tmp_path, "margin/mean")[0] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize("batch_size", [10, IMAGES])
    def test_unfit_data_are_refused_after_the_first_batch(self, batch_size):
        model = self.model()
        with pytest.raises(ValueError, match=r"Labels must lie in 0..3"):
            model.fit(X, Y, batch_size=batch_size, callbacks=[MarginLogger((X, Y + CLASSES))], verbose=0)
        assert int(model.optimizer.iterations) == 1


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
        with pytest.raises(ImportError, match=r"pip install keras-amm\[tensorboard\]"):
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


NAMES = ["ant", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The log directory of a training on small pictures, the last report, and what it is of."""
    x, y = data_of(60, (5, 5, 3), seed=7)
    model = compiled(linear((5, 5, 3)))
    log_dir = tmp_path_factory.mktemp("logs")
    logger = MarginLogger((x, y), log_dir, class_names=NAMES, num_images=4)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[logger])
    return log_dir, logger.report, model, x, y


class TestSummaries:
    def test_all_are_there_at_every_epoch(self, written):
        log_dir, *_ = written
        tags = {
            f"margin/{name}" for name in "mean median attack_success accuracy seconds correct misclassified".split()
        }
        tags |= {f"margin_by_class/{name}" for name in NAMES}
        assert set(events(log_dir).Tags()["tensors"]) == tags | {"robust_accuracy", "smallest_margins"}
        assert all(tensors(log_dir, tag)[0] == [0, 1] for tag in tags)

    def test_scalars(self, written):
        log_dir, report, *_ = written
        for name in ("mean", "median", "accuracy", "seconds"):
            assert tensors(log_dir, f"margin/{name}")[1][-1] == pytest.approx(getattr(report, name))
        assert tensors(log_dir, "margin/attack_success")[1][-1] == report.success_rate

    def test_class_means_add_up_to_the_mean(self, written):
        log_dir, report, *_ = written
        means = [tensors(log_dir, f"margin_by_class/{name}")[1][-1] for name in NAMES]
        counts = np.bincount(report.labels)
        assert np.sum(means * counts) / np.sum(counts) == pytest.approx(report.mean, rel=1e-5)
        assert means[2] == pytest.approx(np.mean(report.norms[report.labels == 2]), rel=1e-5)

    def test_histograms_are_apart(self, written):
        log_dir, report, *_ = written
        for name, mask in (("correct", report.correct), ("misclassified", ~report.correct)):
            edges_and_counts = tensors(log_dir, f"margin/{name}")[1][-1]
            # Of misclassified images, the distance to the label.
            distances = np.abs(report.signed[mask])
            counts, _ = np.histogram(distances, bins=len(edges_and_counts))
            assert np.sum(edges_and_counts[:, 2]) == np.sum(mask) > 0
            assert np.max(np.abs(edges_and_counts[:, 2] - counts)) <= 1  # edges in another precision
            assert edges_and_counts[0, 0] == pytest.approx(np.min(distances))
            assert edges_and_counts[-1, 1] == pytest.approx(np.max(distances))

    @pytest.mark.parametrize("tag", ["robust_accuracy", "smallest_margins"])
    def test_images_are_pictures(self, written, tag):
        width, height, *pngs = tensors(written[0], tag)[1][-1]
        pixels = tf.io.decode_png(pngs[0]).numpy()
        assert pixels.shape[:2] == (int(height), int(width)) and len(pngs) == 1
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20

    def test_the_images_shown_are_those_of_the_smallest_margins(self, written):
        _, report, model, x, y = written
        measurer = Measurer(model, num_nearest=4)
        for start in range(0, 60, 20):
            measurer.add(x[start : start + 20], y[start : start + 20])
        found = measurer.nearest()
        order = np.argsort(report.norms)[:4]
        np.testing.assert_array_equal(found.images, x[order])
        np.testing.assert_array_equal(found.labels, y[order])
        np.testing.assert_allclose(np.linalg.norm(found.deltas.reshape(4, -1), axis=1), report.norms[order], rtol=1e-5)
        predicted = [np.argmax(model(images), axis=1) for images in (found.images, found.images + found.deltas)]
        np.testing.assert_array_equal(found.predictions, predicted[0])
        np.testing.assert_array_equal(found.perturbed, predicted[1])
        assert np.all(found.predictions != found.perturbed)

    @pytest.mark.parametrize(("step_freq", "expected"), [(None, ["epoch 1", "epoch 0"]), (5, ["step 10", "step 5"])])
    def test_curves_are_named_as_the_axis_counts(self, step_freq, expected, tmp_path, monkeypatch):
        drawn = []
        draw = keras_amm.plots.robust_accuracy
        monkeypatch.setattr(keras_amm.plots, "robust_accuracy", lambda reports: drawn.append(reports) or draw(reports))
        fit(MarginLogger((X, Y), tmp_path, step_freq=step_freq))
        assert [*drawn[-1]] == expected and tensors(tmp_path, "robust_accuracy")[0][-1] == int(expected[0].split()[1])

    def test_vectors_have_no_pictures(self, tmp_path):
        fit(MarginLogger((X, Y), tmp_path), epochs=1)
        assert "smallest_margins" not in events(tmp_path).Tags()["tensors"]


_MIRRORED = """
    import keras, numpy as np, tensorflow as tf
    import keras_amm
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    keras.utils.set_random_seed(0)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 6)).astype("float32"), rng.integers(4, size=32)
    with strategy.scope():
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(4)])
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    assert strategy.num_replicas_in_sync == 2
    twin = keras.models.clone_model(model)
    for data in (None, (x, y)):
        logger = keras_amm.callbacks.MarginLogger(data, {folder!r}, step_freq=3)
        history = model.fit(x, y, validation_data=(x, y), epochs=2, batch_size=8, verbose=0, callbacks=[logger]).history
        twin.set_weights(model.get_weights())
        expected = keras_amm.evaluate_margins(twin, (x, y), verbose=0)
        np.testing.assert_allclose(history["val_margin"][-1], expected.mean, rtol=1e-5)
        np.testing.assert_allclose(history["val_accuracy"][-1], expected.accuracy, rtol=1e-5)
    print("measured on", strategy.num_replicas_in_sync)
"""


def test_under_mirrored_strategy(tmp_path):
    """In a process of its own, as logical devices must be made first."""
    code = textwrap.dedent(_MIRRORED).replace("{folder!r}", repr(str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "measured on 2" in done.stdout, done.stderr[-3000:]
    assert tensors(tmp_path, "margin/mean")[0][:2] == [4, 6]
