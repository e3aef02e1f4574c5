"""Binary classifiers of one output unit, and hinge losses: logits (0, z), labels in all of Keras's forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.network.classifier import Classifier
from keras_amm.network.labels import binary_class_indices, class_indices
from tests.helpers.networks import assert_same_weights, assert_trained
from tests.library.cli.command_line import command, saved

layers, losses = keras.layers, keras.losses


def _data(number=32, seed=0):
    rng = np.random.default_rng(seed)
    y = (np.arange(number) % 2).astype("int32")
    return (rng.normal(size=(number, 5)) + y[:, None]).astype("float32"), y


def _linear(head=None, scale=1.0):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1, head)])
    rng = np.random.default_rng(1)
    model.set_weights([scale * rng.normal(size=(5, 1)), np.array([0.3 * scale])])
    return model


def _subclassed(head):
    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1, head)

        def call(self, x):
            return self.dense(x)

    model = Network()
    model(np.zeros((1, 5), "float32"))
    model.set_weights(_linear().get_weights())
    return model


def _with_layer(*layer):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1), *layer])
    model.set_weights(_linear().get_weights())
    return model


HEADS = {
    "sigmoid": lambda: _linear("sigmoid"),
    "logit": _linear,
    "layer": lambda: _with_layer(layers.Activation("sigmoid")),
    "nested": lambda: _with_layer(keras.Sequential([keras.Input((1,)), layers.Activation("sigmoid")])),
    "subclassed": lambda: _subclassed("sigmoid"),
    "subclassed logit": lambda: _subclassed(None),
    "wrapped": lambda: keras_amm.wrap(_linear("sigmoid")),
}


def _softmax_of_one(z):
    """What Keras gives, but without its warning."""
    output = tf.nn.softmax(z)
    output._keras_logits = z
    return output


def _assert_finite(history):
    """Of any loss; what `fit` calls a loss depends on which it is."""
    assert {"margin", "margin_penalty", "attack_success"} < set(history)
    assert all(np.isfinite(values).all() for values in history.values()), history


def _closed_form(x):
    w, b = _linear().get_weights()
    z = (x @ w + b)[:, 0]
    return np.abs(z) / np.linalg.norm(w), (z > 0).astype(int)


class TestMargins:
    @pytest.mark.usefixtures("eagerly")
    @pytest.mark.parametrize("head", HEADS)
    def test_closed_form(self, head):
        x, y = _data()
        distances, predictions = _closed_form(x)
        model = HEADS[head]()
        report = keras_amm.evaluate_margins(model, (x, y), verbose=0)
        np.testing.assert_allclose(report.norms, 1.02 * distances, rtol=1e-4)
        np.testing.assert_array_equal(report.predictions, predictions)
        np.testing.assert_allclose(report.signed, np.where(predictions == y, 1, -1) * 1.02 * distances, rtol=1e-4)
        assert report.accuracy == np.mean(predictions == y)
        assert model.predict(x, verbose=0).shape == (32, 1)

    def test_attack_in_a_function(self):
        x, y = _data()
        model = _linear("sigmoid")
        found = tf.function(
            lambda x, y: keras_amm.DeepFool(overshoot=0.0, refine_steps=5).perturb(model, x, y), jit_compile=True
        )(x, y)
        np.testing.assert_allclose(found.norm, _closed_form(x)[0], rtol=1e-3)
        found = keras_amm.DeepFool().perturb(model, x)
        changed = (model(x + found.delta) > 0.5) != (model(x) > 0.5)
        assert np.all(changed)

    def test_a_tie_is_class_0_as_for_keras(self):
        model = _linear("sigmoid", scale=0.0)
        report = keras_amm.DeepFool().perturb(model, np.ones((2, 5)))
        assert np.all(np.argmax(Classifier(model)(tf.ones((2, 5))), axis=1) == 0)
        assert np.all(np.isfinite(report.norm))
        accuracy = keras.metrics.BinaryAccuracy()
        accuracy.update_state([[0.0]], model(np.ones((1, 5))))
        assert accuracy.result() == 1.0

    @pytest.mark.usefixtures("eagerly")
    def test_saturated_sigmoids_keep_their_logits(self):
        x, y = _data()
        model = _linear("sigmoid", scale=200.0)
        report = keras_amm.evaluate_margins(model, (x, y), verbose=0)
        np.testing.assert_allclose(report.norms, 1.02 * _closed_form(x)[0], rtol=1e-4)

    @pytest.mark.usefixtures("eagerly")
    def test_heads_in_doubt_are_refused(self):
        data = _data()
        for model, message in (
            (_with_layer(layers.Lambda(lambda z: 1 / (1 + tf.exp(-z)))), "looks like probabilities.*sigmoid"),
            (_with_layer(layers.Lambda(_softmax_of_one)), "softmax of one unit is always 1"),
        ):
            with pytest.raises(ValueError, match=message):
                keras_amm.evaluate_margins(model, data, verbose=0)
        with pytest.raises(ValueError, match=r"from_logits=False needs the logits.*sigmoid"):
            keras_amm.DeepFool(from_logits=False).perturb(_linear(), data[0])
        # Small logits of a layer that is known to be linear are in no doubt.
        small = keras.Sequential([keras.Input((5,)), layers.Dense(1, kernel_initializer="zeros")])
        small.layers[-1].bias.assign([0.5])
        assert Classifier(small)(tf.ones((8, 5))).shape == (8, 2)


@pytest.mark.usefixtures("eagerly")
class TestLabels:
    @pytest.mark.parametrize(
        "form",
        [
            lambda y: y,
            lambda y: y[:, None],
            lambda y: y.astype("float32"),
            lambda y: y.astype(bool),
            lambda y: 0.9 * y + 0.05,
            lambda y: 2 * y - 1,
            lambda y: (2.0 * y - 1)[:, None],
        ],
    )
    def test_forms(self, form):
        x, y = _data()
        found, (check,) = binary_class_indices(form(y))
        assert check.ok
        np.testing.assert_array_equal(found, y)
        report = keras_amm.evaluate_margins(_linear(), (x, form(y)), verbose=0)
        np.testing.assert_array_equal(report.labels, y)

    @pytest.mark.parametrize("y", [[0.0, 2.0], [-1.0, 0.0], [0.3, -0.4], [float("nan"), 1.0]])
    def test_other_numbers_are_refused(self, y):
        _, (check,) = binary_class_indices(y)
        assert not check.ok and "regression" in check.message

    def test_two_columns_are_refused(self):
        with pytest.raises(ValueError, match=r"one output unit must be 0 or 1.*\(4, 2\)"):
            binary_class_indices(np.eye(4, 2))

    def test_signed_one_hot(self):
        y = np.array([2, 0, 1])
        for columns in (np.eye(3)[y], 2 * np.eye(3)[y] - 1):
            found, (check,) = class_indices(columns, 3)
            assert check.ok
            np.testing.assert_array_equal(found, y)
        _, (check,) = class_indices(-np.ones((2, 3)), 3)
        assert not check.ok


MODES = [
    ("unrolled", {"jit_compile": True}),
    ("masked", {"run_eagerly": True}),
    ("boundary", {}),
]


def _share_of_smoothed(network, x, y):
    """What remains of the penalty if the labels' probabilities are to be 0.95 in place of 1: `t - p` over `1 - p`."""
    of_other = 1.0 / (1.0 + np.exp(np.where(y == 1, 1.0, -1.0) * network.predict(x, verbose=0)[:, 0].astype("float64")))
    return np.mean(np.maximum(of_other - 0.05, 0.0)) / np.mean(of_other)


class TestTraining:
    @pytest.mark.parametrize(("gradient", "arguments"), MODES, ids=str)
    def test_equals_training_of_the_logits_0_and_z(self, gradient, arguments):
        """The same weights, updates and margins as those of two units, of which the first is the constant 0."""
        x, y = _data()
        one = keras.Sequential(
            [keras.Input((5,)), layers.Dense(4, "tanh", kernel_initializer="random_normal"), layers.Dense(1)]
        )
        inputs = keras.Input((5,))
        z = one(inputs)
        two = keras.Model(inputs, layers.Concatenate()([layers.Lambda(lambda z: 0.0 * z)(z), z]))
        start = one.get_weights()
        results = []
        for network, loss in (
            (two, losses.SparseCategoricalCrossentropy(from_logits=True)),
            (one, losses.BinaryCrossentropy(from_logits=True)),
        ):
            one.set_weights(start)
            # Steps so small that the networks stay alike, and few things to trace.
            regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", strength=2.0, c=0.5, gradient=gradient)
            model = keras_amm.wrap(network, regularizer, keras_amm.DeepFool(max_iterations=3))
            # The one to compare with is the same in every mode.
            mode = arguments if network is one else {"run_eagerly": True}
            model.compile(keras.optimizers.SGD(0.01), loss, **mode)
            history = model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history
            assert_trained(history)
            results.append((history, one.get_weights()))
        (wanted, wanted_weights), (got, weights) = results
        for name, values in wanted.items():
            np.testing.assert_allclose(got[name], values, rtol=1e-3)
        for a, b in zip(weights, wanted_weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

    @pytest.mark.usefixtures("eagerly")
    @pytest.mark.parametrize(
        ("head", "loss", "form"),
        [
            ("sigmoid", "binary_crossentropy", lambda y: y),
            ("sigmoid", losses.BinaryCrossentropy(), lambda y: y[:, None].astype("float32")),
            (None, losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1), lambda y: y),
            (None, losses.BinaryCrossentropy(from_logits=True), lambda y: (0.9 * y + 0.05)[:, None]),
            (None, losses.Hinge(), lambda y: (2.0 * y - 1)[:, None]),
            (None, losses.SquaredHinge(), lambda y: y[:, None]),
        ],
    )
    def test_losses_and_labels(self, head, loss, form):
        x, y = _data()
        network = _linear(head)
        penalty = float(keras_amm.wrap(network).margin_penalty(x, y))
        smoothed = penalty * _share_of_smoothed(network, x, y) if head is None else penalty
        labels_are_smoothed = not np.all(np.isin(form(y), (-1.0, 0.0, 1.0)))
        wanted = smoothed if labels_are_smoothed else penalty
        np.testing.assert_allclose(keras_amm.wrap(network).margin_penalty(x, form(y)), wanted, rtol=1e-5)
        if getattr(loss, "label_smoothing", 0.0):
            wanted = smoothed
        model = keras_amm.wrap(network)
        model.compile(
            keras.optimizers.SGD(0.0), loss, metrics=[keras.metrics.BinaryAccuracy(threshold=0.5 if head else 0.0)]
        )
        logger = keras_amm.callbacks.MarginLogger((x, form(y)))
        history = model.fit(x, form(y), batch_size=32, verbose=0, callbacks=[logger]).history
        _assert_finite(history)
        np.testing.assert_allclose(history["margin_penalty"], wanted, rtol=1e-5)
        np.testing.assert_allclose(history["val_paper_margin"][0], 1.02 * _closed_form(x)[0].mean(), rtol=1e-3)

    def test_saved_and_loaded(self, tmp_path):
        model = keras_amm.wrap(_linear("sigmoid"))
        model.save(tmp_path / "one.keras")
        loaded = keras.models.load_model(tmp_path / "one.keras")
        assert_same_weights(loaded, model)
        assert loaded.predict(_data()[0], verbose=0).shape == (32, 1)


@pytest.mark.usefixtures("eagerly")
class TestHinge:
    @pytest.mark.parametrize(
        ("loss", "form"),
        [
            (losses.CategoricalHinge(), lambda y: np.eye(3)[y]),
            (losses.Hinge(), lambda y: 2 * np.eye(3)[y] - 1),
            (losses.SquaredHinge(), lambda y: 2.0 * np.eye(3)[y] - 1),
        ],
    )
    def test_penalty_is_that_with_cross_entropy(self, loss, form):
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(32, 5)).astype("float32"), np.arange(32) % 3
        keras.utils.set_random_seed(0)
        network = keras.Sequential([keras.Input((5,)), layers.Dense(8, "tanh"), layers.Dense(3)])
        wanted = float(keras_amm.wrap(network).margin_penalty(x, y))
        model = keras_amm.wrap(network)
        np.testing.assert_allclose(model.margin_penalty(x, form(y)), wanted, rtol=1e-5)
        model.compile(keras.optimizers.SGD(0.01), loss)
        history = model.fit(x, form(y), batch_size=32, verbose=0).history
        _assert_finite(history)
        np.testing.assert_allclose(history["margin_penalty"], wanted, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_command_line_and_plots(tmp_path):
    pytest.importorskip("matplotlib")
    x, y = _data()
    model = _linear("sigmoid")
    model.save(tmp_path / "one.keras")
    np.savez(tmp_path / "points.npz", x=x, y=y)
    command(
        "margins", "one.keras", f"--dataset={tmp_path / 'points.npz'}", f"--out={tmp_path / 'out'}", folder=tmp_path
    )
    report = saved(next((tmp_path / "out").glob("*.json")))
    np.testing.assert_allclose(report.norms, 1.02 * _closed_form(x)[0], rtol=1e-4)
    plane = keras.Sequential([keras.Input((2,)), layers.Dense(1, "sigmoid")])
    keras_amm.plots.decision_regions(plane, x[:, :2], y)
    keras_amm.plots.boundary_cross_section(model, x[0], keras_amm.DeepFool().perturb(model, x[:1]).delta[0].numpy())
    report.plot()
