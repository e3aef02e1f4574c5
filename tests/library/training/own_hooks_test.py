"""Classifiers with their own loss, metrics and steps: against plain Keras's training of the same class."""

import inspect
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import LOSS, assert_same_weights, small_data, train, wrap_lightly

_OFF = keras_amm.MarginRegularizer.from_paper("min-exp", strength=0.0)


def _layers(**_):
    return [keras.layers.Flatten(), keras.layers.Dense(8, "relu", kernel_regularizer="l2"), keras.layers.Dense(3)]


class Sequential(keras.Sequential):
    def __init__(self, *args, **kwargs):
        super().__init__([keras.Input((6, 6, 1)), *_layers()], *args, **kwargs)


class Functional(keras.Model):
    def __init__(self, **kwargs):
        inputs = outputs = keras.Input((6, 6, 1))
        for layer in _layers():
            outputs = layer(outputs)
        super().__init__(inputs, outputs, **kwargs)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = _layers()

    def call(self, inputs):
        for part in self.parts:
            inputs = part(inputs)
        return inputs


class Loss:
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        # The second pass, the optimizer and the loss are those of a compiled model.
        again = self(x, training=training)
        assert self.optimizer is not None and self.loss is not None and self.compiled
        wanted = super().compute_loss(x, y, y_pred, sample_weight, training)
        return wanted + 0.1 * keras.ops.mean(keras.ops.square(again)) + (0.5 if training else 0.25)


class OldLoss:
    """As before Keras 3.3, and without the compiled loss."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        each = keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True)
        return 2.0 * keras.ops.mean(each) + keras.ops.sum(self.losses)


class Metrics:
    """With a metric that the model holds, and a number that is no metric."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.spread = keras.metrics.Mean(name="spread")

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        self.spread.update_state(keras.ops.std(y_pred, axis=1))
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "largest": keras.ops.max(self.spread.total)}


class OwnLossTracker:
    """The example of Keras's documentation of compute_loss."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.tracker = keras.metrics.Mean(name="own_loss")

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, y_pred, from_logits=True))
        loss += keras.ops.sum(self.losses)
        self.tracker.update_state(loss)
        return loss

    def reset_metrics(self):
        self.tracker.reset_state()

    @property
    def metrics(self):
        return [self.tracker]


class Steps:
    def test_step(self, data):
        return {**super().test_step(data), "tested": keras.ops.ones(())}

    def predict_step(self, data):
        return keras.ops.argmax(super().predict_step(data), axis=-1)


def _build(hooks, base=Sequential):
    keras.utils.set_random_seed(1)
    model = type(hooks.__name__, (hooks, base), {})()
    model(np.zeros((1, 6, 6, 1)))
    return model


def _history(model, *, weights=None, **arguments):
    x, y = small_data(32)
    fit = {"epochs": 2, "validation_data": (x[:20], y[:20]), "sample_weight": weights}
    arguments = {"metrics": ["accuracy"], "weighted_metrics": ["sparse_categorical_accuracy"], **arguments}
    return train(model, x, y, fit=fit, **arguments)


def _assert_same(got, wanted, rtol=1e-6):
    assert set(got) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(got[name], values, rtol=rtol, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(
    ("hooks", "base", "arguments"),
    [
        (Loss, Sequential, {"jit_compile": True}),
        (Loss, Subclassed, {"run_eagerly": True}),
        (OldLoss, Sequential, {"run_eagerly": True}),
        (Metrics, Functional, {}),
        (Metrics, Subclassed, {"run_eagerly": True}),
        (OwnLossTracker, Functional, {}),
        (Steps, Subclassed, {"run_eagerly": True}),
        (Steps, Functional, {"steps_per_execution": 2}),
    ],
)
def test_without_penalty_training_is_plain_keras(hooks, base, arguments):
    plain, network = _build(hooks, base), _build(hooks, base)
    wrapped = keras_amm.wrap(network, _OFF)
    weights = np.linspace(0.0, 2.0, 32).astype("float32")
    wanted = _history(plain, weights=weights, **arguments)
    _assert_same(_history(wrapped, weights=weights, **arguments), wanted)
    assert_same_weights(network, plain, rtol=1e-6, atol=1e-7)
    x, y = small_data(32)
    _assert_same(wrapped.evaluate(x, y, return_dict=True, verbose=0), plain.evaluate(x, y, return_dict=True, verbose=0))
    assert wrapped.evaluate(x, y, verbose=0) == pytest.approx(plain.evaluate(x, y, verbose=0), rel=1e-6)
    np.testing.assert_allclose(wrapped.predict(x, verbose=0), plain.predict(x, verbose=0), rtol=1e-5)
    for name in ("train_on_batch", "test_on_batch"):
        results = [getattr(model, name)(x[:8], y[:8], return_dict=True) for model in (wrapped, plain)]
        _assert_same(*results, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("hooks", [Loss, OldLoss, Metrics, OwnLossTracker, Steps])
def test_with_a_penalty_the_loss_is_the_classifiers_and_the_penalty(hooks):
    x, y = small_data(16)
    plain, network = _build(hooks), _build(hooks)
    wrapped = keras_amm.wrap(network, keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary"))
    for model in (plain, wrapped):
        model.compile(keras.optimizers.SGD(0.0), LOSS, metrics=["accuracy"])
    wanted = plain.train_on_batch(x, y, return_dict=True)
    logs = wrapped.train_on_batch(x, y, return_dict=True)
    assert logs["margin_penalty"] > 0.1
    for name, value in wanted.items():
        penalty = logs["margin_penalty"] if name == "loss" else 0.0
        np.testing.assert_allclose(logs[name], value + penalty, rtol=1e-5, err_msg=name)
    _assert_same(wrapped.test_on_batch(x, y, return_dict=True), plain.test_on_batch(x, y, return_dict=True), rtol=1e-5)
    with tf.GradientTape() as tape:
        loss = plain.compute_loss(x, y, plain(x, training=True), *([None] if hooks is OwnLossTracker else []))
        total = loss + keras_amm.wrap(plain, wrapped.regularizer).margin_penalty(x, y)
    wrapped.compile(keras.optimizers.SGD(0.1), LOSS)
    wrapped.train_on_batch(x, y)
    for weight, gradient in zip(
        plain.trainable_variables, tape.gradient(total, plain.trainable_variables), strict=True
    ):
        weight.assign_sub(0.1 * gradient)
    assert_same_weights(network, plain)


def test_own_metrics_are_of_each_epoch_beside_the_margins():
    x, y = small_data(16)
    wrapped = keras_amm.wrap(_build(Metrics), keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary"))
    fit = {"epochs": 2, "validation_data": (x, y)}
    history = train(wrapped, x, y, optimizer=keras.optimizers.SGD(0.0), fit=fit)
    assert {"loss", "spread", "largest", "margin"} <= set(history)
    assert {name for name in history if name.startswith("val_")} == {"val_loss", "val_spread", "val_largest"}
    expected = np.mean(np.std(wrapped.predict(x, verbose=0), axis=1))
    for name in ("spread", "val_spread"):
        np.testing.assert_allclose(history[name], [expected] * 2, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_nothing_is_left_in_the_classifier(tmp_path):
    network = keras.saving.register_keras_serializable("own_hooks_test", "Lossy")(type("Lossy", (Loss, Functional), {}))
    keras.utils.set_random_seed(1)
    classifier = network()
    before = dict(vars(classifier))
    wrapped = wrap_lightly(classifier)
    train(wrapped, *small_data(16))
    assert not classifier.compiled and not hasattr(classifier, "optimizer")
    for name in ("_metrics", "_layers", "loss", "_compile_loss", "_compile_metrics", "_loss_tracker"):
        assert vars(classifier)[name] is before[name] or vars(classifier)[name] == before[name]
    assert not classifier._metrics
    with pytest.raises(ValueError, match="compile"):
        classifier.fit(*small_data(16), verbose=0)


def test_a_classifier_that_was_compiled_keeps_what_it_was_compiled_with():
    x, y = small_data(16)
    classifier = _build(Loss)
    classifier.compile("adam", "mse", metrics=["mae"])
    optimizer, loss = classifier.optimizer, classifier.loss
    train(keras_amm.wrap(classifier, _OFF), x, y)
    assert classifier.optimizer is optimizer and classifier.loss == loss
    assert classifier.metrics_names[0] == "loss" and not optimizer.built


def test_a_failing_loss_gives_back_what_was_lent():
    class Failing(Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            raise RuntimeError("as it happens")

    classifier = Failing()
    with pytest.raises(RuntimeError, match="as it happens"):
        train(keras_amm.wrap(classifier), *small_data(16))
    assert not classifier.compiled and classifier._loss_tracker is None


@keras.saving.register_keras_serializable("own_hooks_test")
class Saved(Metrics, Loss, Subclassed):
    pass


@pytest.mark.usefixtures("eagerly")
def test_saved_and_loaded(tmp_path):
    x, y = small_data(32)
    keras.utils.set_random_seed(1)
    classifier = Saved()
    classifier(x)
    model = wrap_lightly(classifier)
    train(model, x, y, metrics=["accuracy"])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    _assert_same(loaded.evaluate(x, y, return_dict=True, verbose=0), model.evaluate(x, y, return_dict=True, verbose=0))
    _assert_same(
        loaded.fit(x, y, shuffle=False, verbose=0).history, model.fit(x, y, shuffle=False, verbose=0).history, rtol=1e-4
    )


def test_replicas(mirrored):
    """As on one device, also where the logs have an entry that is no metric, and Keras averages those of replicas."""
    histories, (x, y) = [], small_data(32)
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            model = keras_amm.wrap(
                type("Both", (Metrics, Loss, Functional), {})(),
                keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary"),
                keras_amm.DeepFool(num_candidates=2),
            )
            model.set_weights([0.3 * np.random.default_rng(0).normal(size=w.shape) for w in model.get_weights()])
        # What one device computes is compared; how it does so is not the point, and tracing takes long.
        arguments = {"metrics": ["accuracy"], "run_eagerly": strategy is not mirrored}
        histories.append(train(model, x, y, optimizer=keras.optimizers.SGD(0.0), **arguments))
    one, two = histories
    for name in ("spread", "accuracy", "margin", "margin_penalty"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, err_msg=name)


class Trained(Sequential):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = 3.0 * self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"tripled": loss}


@pytest.mark.usefixtures("eagerly")
def test_an_own_training_step_is_warned_about_once():
    keras.utils.set_random_seed(1)
    with pytest.warns(UserWarning, match=r"train_step of Trained is not called.*margin_penalty\(x, y\)") as told:
        model = keras_amm.wrap(Trained())
    assert len(told) == 1
    assert told[0].filename == __file__
    history = train(model, *small_data(16))
    assert "tripled" not in history and history["margin_penalty"][0] > 0


class Prepares(Sequential):
    """Scales images before it trains on them, as the classifiers of keras-hub do."""

    def fit(self, x=None, *args, **kwargs):
        return super().fit(x / 255.0, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        return super().predict(x / 255.0, *args, **kwargs)


@pytest.mark.parametrize("regularizer", [None, _OFF])
def test_what_a_user_calls_on_the_classifier_is_warned_about_once(regularizer):
    with pytest.warns(UserWarning, match=r"Prepares has .*not called: fit, predict\..*preparing the images") as told:
        keras_amm.wrap(Prepares(), regularizer)
    assert len(told) == 1
    assert told[0].filename == __file__


def test_a_classifier_of_keras_is_not_warned_about():
    inputs = keras.Input((2,))
    for model in (Sequential(), Functional(), keras.Model(inputs, keras.layers.Dense(3)(inputs))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            keras_amm.wrap(model)


def test_without_penalty_the_own_training_step_is_kept():
    x, y = small_data(16)
    histories = []
    for wrap in (lambda model: model, lambda model: keras_amm.wrap(model, _OFF)):
        keras.utils.set_random_seed(1)
        histories.append(train(wrap(Trained()), x, y))
    _assert_same(*histories)


def test_the_hooks_are_what_keras_calls():
    """Their signatures are Keras's, so that nothing that Keras passes is lost."""
    for name in ("compute_loss", "compute_metrics", "get_metrics_result", "reset_metrics"):
        own, keras_own = (inspect.signature(getattr(owner, name)) for owner in (keras_amm.AMMModel, keras.Model))
        assert list(own.parameters) == list(keras_own.parameters)
