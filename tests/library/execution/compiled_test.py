"""Compiled functions: what is compiled again, what is not, and what is dropped."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.execution.compiled import CompiledPerModel


class _Scores:
    """A function to compile that counts how often it is traced."""

    def __init__(self):
        self.compiled, self.traced = CompiledPerModel(), 0

    def __call__(self, model, x, setting="any"):
        return self.compiled.get(model, setting, self._run, [x])(x)

    def _run(self, model, x):
        self.traced += 1
        return model(x)


def _model(*layers):
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])


def test_once_for_batches_of_any_size_and_weights_of_any_value():
    scores, model = _Scores(), _model()
    for size in (1, 3, 1):
        model.layers[-1].kernel.assign_add(tf.ones((4, 3)))
        x = X[:size]
        np.testing.assert_allclose(scores(model, x), model(x), rtol=1e-5)
    assert scores.traced == 1


def test_again_for_another_setting_dtype_or_model():
    scores, model = _Scores(), _model()
    for _ in range(2):
        scores(model, tf.ones((2, 4)))
        scores(model, tf.ones((2, 4)), setting="another")
        scores(model, tf.ones((2, 4), tf.float64))
        scores(_other := _model(), tf.ones((2, 4)))
    assert scores.traced == 3 + 2


def test_again_where_a_weight_was_exchanged():
    scores, x = _Scores(), tf.ones((2, 4))
    inner = _model()
    model = keras.Sequential([keras.Input((4,)), inner])
    scores(model, x)
    inner.pop()
    inner.add(keras.layers.Dense(3))
    np.testing.assert_allclose(scores(model, x), model(x), rtol=1e-5)
    assert scores.traced == 2


def _normalized(data):
    normalization = keras.layers.Normalization()
    normalization.adapt(data)
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), normalization, keras.layers.Dense(3)])


def _load_weights(model, other, path):
    if model.compiled:
        # A file holds the optimizer too.
        other.compile(keras.optimizers.SGD(0.0), model.loss)
        other.optimizer.build(other.trainable_variables)
    other.save_weights(path / "other.weights.h5")
    model.load_weights(path / "other.weights.h5")


X = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
FAR = 50 * X + 3
# What changes a model in a way that a compiled function takes for constant; another model, and a folder to write to.
CHANGES = {
    "adapt": lambda model, other, path: model.layers[0].adapt(FAR),
    "load_weights": _load_weights,
    "activation": lambda model, other, path: setattr(model.layers[-1], "activation", keras.activations.tanh),
    "a number": lambda model, other, path: setattr(model.layers[0], "mean", 2.0),
    "quantize": lambda model, other, path: model.layers[-1].quantize("int8"),
    "a layer more": lambda model, other, path: model.add(keras.layers.Dense(3, "tanh")),
    "a layer less": lambda model, other, path: model.pop(),
    "trainable": lambda model, other, path: setattr(model.layers[-1], "trainable", False),
    "compile": lambda model, other, path: model.compile("sgd", "mse"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_again_where_the_model_has_changed(change, tmp_path):
    scores, model, other = _Scores(), _normalized(X), _normalized(FAR)
    scores(model, X)
    CHANGES[change](model, other, tmp_path)
    for _ in range(2):
        # The function has batches of any size, which quantisation does not round alike.
        np.testing.assert_allclose(scores(model, X), model(X), rtol=1e-5, atol=0.05 if change == "quantize" else 1e-6)
    assert scores.traced == 2


@pytest.mark.parametrize(("change", "recompile"), [("adapt", False), ("load_weights", True)])
def test_every_measurement_is_of_the_model_as_it_is(change, recompile, tmp_path):
    y = np.arange(30) % 3
    attack, model, other = keras_amm.DeepFool(), _normalized(X), _normalized(FAR)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)

    def measured():
        logged = model.fit(X, y, verbose=0, callbacks=[keras_amm.callbacks.MarginLogger((X, y))]).history
        report = keras_amm.evaluate_margins(model, (X, y), verbose=0)
        return [report.mean, np.mean(attack.perturb(model, X).norm), *logged["val_paper_margin"]]

    before = measured()
    CHANGES[change](model, other, tmp_path)
    if recompile:
        model.compile(keras.optimizers.SGD(0.0), loss)
    expected = np.mean(keras_amm.DeepFool().perturb(other, X).norm)
    np.testing.assert_allclose(measured(), expected, rtol=1e-4)
    assert np.all(np.array(before) < 0.5 * expected)


def test_training_after_adapt_goes_on_with_the_new_constants_once_compiled():
    """As plain Keras does."""
    y = np.arange(30) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain, wrapped = (
        _normalized(X),
        keras_amm.wrap(
            _normalized(X),
            keras_amm.MarginRegularizer.from_paper("min-exp", strength=1e-6, shrinkage="lin", gradient="boundary"),
        ),
    )
    found = []
    for model in (plain, wrapped):
        model.compile(keras.optimizers.SGD(0.0), loss)
        first = model.fit(X, y, verbose=0).history
        (model.base_model if model is wrapped else model).layers[0].adapt(FAR)
        model.compile(keras.optimizers.SGD(0.0), loss)
        found.append([*first["loss"], *model.fit(X, y, verbose=0).history["loss"]])
    np.testing.assert_allclose(*found, rtol=1e-4)
    assert abs(found[0][0] - found[0][1]) > 1e-3


@keras.saving.register_keras_serializable(package="tests")
class Remembering(keras.Model):
    """A model that changes while it is traced, and keeps what it sees."""

    def __init__(self):
        super().__init__()
        self.dense, self.calls, self.seen = keras.layers.Dense(3), 0, None

    def call(self, x):
        self.calls += 1
        self.seen = self.dense(x)
        return self.seen


@pytest.mark.parametrize("make", [_model, Remembering, lambda: _normalized(X)], ids=["plain", "remembering", "adapted"])
def test_nothing_is_traced_again_where_nothing_has_changed(make):
    scores, model = _Scores(), make()
    model(X)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])

    class Scoring(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            scores(model, X)

        def on_epoch_end(self, epoch, logs=None):
            # While Keras holds the data that it has validated on.
            scores(model, X)

    arguments = {"x": X, "y": np.arange(30) % 3, "batch_size": 10, "verbose": 0}
    arguments["validation_data"] = (X, arguments["y"])
    # The first batches trace the model for training and for validation, the others do not.
    model.fit(**arguments)
    scores.traced = 0
    scores(model, X)
    model.fit(**arguments, epochs=2, callbacks=[Scoring()])
    scores(model, X)
    assert scores.traced == 1


def test_nothing_keeps_a_model_alive():
    attack, model = keras_amm.DeepFool(), _model()
    attack.perturb(model, np.ones((2, 4), "float32"))
    reference = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None
