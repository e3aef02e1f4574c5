"""Bad input: an exception that names what was got and what was expected, and weights that stay whole."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import (
    LOSS,
    Subclassed,
    small_data,
    small_network,
    wrap_lightly,
)


# One model and one attack mean one compilation. That each bad batch leaves the model as it was is part of the tests.
@functools.cache
def _model():
    return small_network()


@functools.cache
def _to_fit(loss, **arguments):
    wrapped = wrap_lightly(_model())
    wrapped.compile("sgd", loss(from_logits=True), **arguments)
    return wrapped


ATTACK = keras_amm.DeepFool()


def _ways(x, y):
    """Every public way in which a batch with labels meets the model."""
    loss = keras.losses.SparseCategoricalCrossentropy if y.ndim == 1 else keras.losses.CategoricalCrossentropy

    def fit(**arguments):
        _to_fit(loss, **arguments).fit(x, y, batch_size=8, verbose=0)

    return {
        "margin_penalty": lambda: keras_amm.wrap(_model()).margin_penalty(x, y),
        "fit": fit,
        "fit_eagerly": lambda: fit(run_eagerly=True),
        "fit_xla": lambda: fit(jit_compile=True),
        "perturb": lambda: ATTACK.perturb(_model(), x, y),
        "evaluate_margins": lambda: keras_amm.evaluate_margins(_model(), (x, y), verbose=0),
    }


WAYS = ("margin_penalty", "fit", "fit_eagerly", "fit_xla", "perturb", "evaluate_margins")
BAD_VALUES = {
    "too large": (
        lambda x, y: (x, np.where(y == 1, 7, y)),
        r"Labels must lie in 0..2, the classifier's outputs",
    ),
    "negative": (lambda x, y: (x, np.where(y == 1, -1, y)), r"0\.\.2"),
    "fractional": (lambda x, y: (x, y + 0.5), "whole numbers"),
    "nan": (lambda x, y: (np.where(x > 2, np.nan, x), y), "finite"),
    "infinite": (lambda x, y: (np.where(x > 2, np.inf, x), y), "finite"),
    "regression": (lambda x, y: (x, np.random.default_rng(0).standard_normal((len(y), 3))), "probabilities"),
}
# Compiling takes long: one of images, one of labels, and one of labels in columns; the others train without.
COMPILED = ("too large", "nan", "regression")


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        (way, kind)
        for kind in BAD_VALUES
        for way in WAYS
        if way not in (("fit_eagerly",) if kind in COMPILED else ("fit", "fit_xla"))
    ],
)
def test_bad_values(way, kind):
    x, y = small_data(16)
    change, message = BAD_VALUES[kind]
    before = _model().get_weights()
    with pytest.raises(ValueError, match=message):
        _ways(*change(x, y))[way]()
    for a, b in zip(before, _model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("way", ["margin_penalty", "perturb", "evaluate_margins"])
def test_wrong_image_shape(way):
    x, y = small_data(16)
    with pytest.raises(ValueError, match=r"Expected: shape \(None, 6, 6, 1\).*Received: shape \(16, 5, 6, 1\)"):
        _ways(x[:, :5], y)[way]()


@pytest.mark.parametrize("way", ["margin_penalty", "perturb"])
def test_wrong_label_shape(way):
    x, y = small_data(16)
    with pytest.raises(ValueError, match=r"Received: labels of shape \((16|None), 4\)"):
        _ways(x, np.eye(4)[y])[way]()


@pytest.mark.parametrize(
    ("accumulated", "message"), [(None, "^In training step 2,"), (2, "^In one of the 2 training steps of update 1,")]
)
def test_the_step_is_named(accumulated, message):
    x, y = small_data(32)
    y[20] = 9
    model = wrap_lightly(_dense_network())
    model.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulated), LOSS)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, batch_size=16, shuffle=False, verbose=0)


@pytest.mark.parametrize("arguments", [{}, {"run_eagerly": True}], ids=str)
def test_wrong_labels_leave_the_statistics_of_batches_as_they_were(arguments):
    x, y = small_data(16)
    model = wrap_lightly(_dense_network(keras.layers.BatchNormalization()))
    model.compile("sgd", LOSS, **arguments)
    before = model.get_weights()
    with pytest.raises(ValueError, match="Labels must lie in"):
        model.fit(x, np.where(y == 1, 7, y), batch_size=16, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_labels_of_unknown_sizes():
    x, y = small_data(16)
    model = wrap_lightly(_dense_network())
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    sizes = tf.TensorSpec([None, 6, 6, 1]), tf.TensorSpec([None, None])
    data = tf.data.Dataset.from_generator(lambda: iter([(x, np.eye(3)[y])]), output_signature=sizes).repeat()
    with pytest.raises(ValueError, match=r"shape \(None, None\). Tell the sizes that are not known: `tf.ensure_shape`"):
        model.fit(data, steps_per_epoch=1, verbose=0)
    data = data.map(lambda x, y: (x, tf.ensure_shape(y, [None, 3])))
    history = model.fit(data, steps_per_epoch=1, verbose=0).history
    assert np.isfinite(history["margin"]).all()


def _dense_network(*between):
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), *between, keras.layers.Dense(3)])


@keras.saving.register_keras_serializable(package="keras_amm_tests")
class SquareRoot(keras.layers.Layer):
    """Differentiable once, but its second derivative at zero is infinite times zero."""

    def call(self, inputs):
        return inputs + tf.sqrt(tf.nn.relu(inputs) ** 3)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_nan_of_the_penalty_never_reaches_the_weights(jit_compile):
    x, y = small_data(16)
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", shrinkage=lambda t: tf.sqrt(t - 1e3), gradient="boundary"
    )
    model = keras_amm.wrap(_dense_network(), regularizer=regularizer)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS, jit_compile=jit_compile)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"training step 1.*penalty must be finite"):
        model.fit(x, y, batch_size=16, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    iterations, _, *momentums = model.optimizer.variables
    assert momentums and not any(np.any(variable) for variable in (iterations, *momentums))


def test_nan_logits_are_reported_in_a_warm_up_of_two_classes():
    """The strength follows the logits there, and the checks belong to the penalty, which a strength of 0 turns off."""
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    network.set_weights([np.ones((3, 2)), np.full(2, np.nan)])
    model = keras_amm.wrap(network, warmup_steps=5)
    model.compile(keras.optimizers.SGD(0.01), LOSS)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="logits must be finite"):
        model.fit(np.ones((16, 3)), np.arange(16) % 2, batch_size=4, verbose=0)


@pytest.mark.usefixtures("eagerly")
def test_a_nan_of_the_second_derivative_is_reported():
    x, y = small_data(16)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    hidden = SquareRoot()(keras.layers.Dense(8)(keras.layers.Flatten()(inputs)))
    model = keras_amm.wrap(keras.Model(inputs, keras.layers.Dense(3)(hidden)))
    model.compile("sgd", LOSS)
    with pytest.raises(
        ValueError, match=r"(?i)gradient of the margin penalty|logits must be finite|penalty must be finite"
    ):
        model.fit(x, y, batch_size=16, epochs=3, verbose=0)
    assert all(np.all(np.isfinite(w)) for w in model.get_weights())


def test_no_labels():
    x, _ = small_data(16)
    model = keras_amm.wrap(small_network())
    model.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="need labels"):
        model.margin_penalty(x, None)
    with pytest.raises(ValueError, match=r"labels|y_true|target|None"):
        model.fit(x, verbose=0)
    with pytest.raises(ValueError, match="labels"):
        keras_amm.evaluate_margins(model, tf.data.Dataset.from_tensor_slices(x).batch(4), verbose=0)


def test_empty_data():
    x, y = small_data(16)
    with pytest.raises(ValueError, match="empty"):
        keras_amm.evaluate_margins(small_network(), (x[:0], y[:0]), verbose=0)


def _several_inputs():
    a, b = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    return keras.Model([a, b], keras.layers.Dense(3)(keras.layers.Add()([a, b])))


def _several_outputs():
    a = keras.Input((4,))
    return keras.Model(a, [keras.layers.Dense(3)(a), keras.layers.Dense(3)(a)])


def _segmentation():
    return keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(3, 1)])


@pytest.mark.usefixtures("eagerly")
def test_regression_is_told_by_its_targets():
    """Its model looks like a binary classifier of one logit."""
    x, _ = small_data(16)
    targets = np.linspace(-3.0, 3.0, 16)
    network = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model = keras_amm.wrap(network)
    model.compile("sgd", "mse")
    before = network.get_weights()
    for refused in (
        lambda: model.fit(x, targets, verbose=0),
        lambda: keras_amm.evaluate_margins(network, (x, targets), verbose=0),
    ):
        with pytest.raises(ValueError, match=r"must be 0 or 1.*regression targets have no margin"):
            refused()
    for weight, old in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (_several_inputs, r"2 inputs: \['left', 'right'\]"),
        (_several_outputs, "2 outputs"),
        (_segmentation, r"output of shape \(None, 6, 6, 3\)"),
        (Subclassed, "not built"),
    ],
)
def test_models_that_are_no_classifiers(build, message):
    x, y = small_data(4)
    with pytest.raises(ValueError, match=message):
        keras_amm.wrap(build())
    with pytest.raises(ValueError, match=message):
        keras_amm.DeepFool().perturb(build(), x)
    with pytest.raises(ValueError, match=message):
        keras_amm.evaluate_margins(build(), (x, y), verbose=0)


def test_not_a_model():
    with pytest.raises(TypeError, match="Expected a Keras model"):
        keras_amm.wrap(lambda x: x)
    with pytest.raises(TypeError, match="Expected a Keras model"):
        keras_amm.DeepFool().perturb(3, np.zeros((1, 2)))


def test_several_arrays_of_images():
    x, _ = small_data(4)
    with pytest.raises(ValueError, match="one array of images"):
        keras_amm.DeepFool().perturb(small_network(), {"a": x, "b": x})


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("activation", ["sigmoid", lambda t: keras.ops.softmax(t) * 1.0])
def test_outputs_in_doubt(activation):
    x, y = small_data(16)
    model = keras.Sequential([small_network(), keras.layers.Activation(activation)])
    with pytest.raises(ValueError, match="logits"):
        keras_amm.DeepFool().perturb(model, x)
    wrapped = wrap_lightly(model)
    wrapped.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    with pytest.raises(ValueError, match="logits"):
        wrapped.fit(x, y, verbose=0)


def test_logits_said_to_be_probabilities():
    x, _ = small_data(4)
    with pytest.raises(ValueError, match="from_logits=False needs"):
        keras_amm.DeepFool(from_logits=False).perturb(small_network(), x)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_flat_and_saturated_networks_train(scale):
    x, y = small_data(16)
    network = small_network(head="softmax")
    network.set_weights([scale * w for w in network.get_weights()])
    model = keras_amm.wrap(network)
    model.compile(
        keras.optimizers.SGD(1e-3, global_clipnorm=1.0), keras.losses.SparseCategoricalCrossentropy(), run_eagerly=True
    )
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    assert all(np.all(np.isfinite(w)) for w in network.get_weights())


@pytest.mark.parametrize("jit_compile", [False, True])
def test_nan_images_leave_batch_normalization_as_it_was(jit_compile):
    x, y = small_data(16)
    network = _dense_network(keras.layers.BatchNormalization())
    model = wrap_lightly(network)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=jit_compile)
    before = network.get_weights()
    x[3, 0] = np.nan
    with pytest.raises(ValueError, match=r"In training step 1, .*Images must be finite"):
        model.fit(x, y, batch_size=16, verbose=0)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_under_xla_the_step_is_named_and_no_later_one_is_applied():
    """The second of the three steps of the second execution, each of which is a copy for XLA to compile."""
    x, y = small_data(48)
    model = wrap_lightly(_dense_network())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-3), loss, jit_compile=True, steps_per_execution=3)
    y[33] = 7
    with pytest.raises(ValueError, match=r"In training step 5, .*Labels must lie in 0..2.* Train without jit_compile"):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 4


class Wrapped(keras.optimizers.Optimizer):
    """Another optimizer's steps, and a count of them of its own, which are not among its `variables`."""

    def __init__(self, inner):
        super().__init__(learning_rate=1.0)
        self.inner, self.count = inner, tf.Variable(0)

    def build(self, variables):
        self.inner.build(variables)
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        self.inner.apply(grads, trainable_variables)
        self.count.assign_add(1)
        self.iterations.assign_add(1)


def test_under_xla_a_refused_update_leaves_nothing_behind():
    """Each optimizer keeps its state otherwise: beside its moments, averages, sums, scales, or another optimizer's."""
    x, y = small_data(16)
    adam = keras.optimizers.Adam(1e-3, use_ema=True, gradient_accumulation_steps=2)
    inner = keras.optimizers.SGD(1e-3, momentum=0.9)
    for optimizer in (adam, keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1e-3)), Wrapped(inner)):
        model = wrap_lightly(_dense_network())
        model.compile(optimizer, LOSS, jit_compile=True)
        model.fit(x, y, batch_size=16, verbose=0)
        state = [*optimizer.variables, *inner.variables, *getattr(optimizer, "inner_optimizer", inner).variables]
        state += [optimizer.count] if isinstance(optimizer, Wrapped) else []
        before = [np.array(variable) for variable in (*state, *model.weights)]
        with pytest.raises(ValueError, match="Labels must lie in"):
            model.fit(x, np.full_like(y, 7), batch_size=16, verbose=0)
        for a, b in zip(before, (*state, *model.weights), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("eagerly")
def test_labels_do_not_wrap_around():
    x, _ = small_data(1)
    with pytest.raises(ValueError, match="Got labels such as 4294967296"):
        keras_amm.DeepFool().perturb(small_network(), x, np.array([2**32]))


def test_wrapped_twice():
    with pytest.raises(ValueError, match="wrapped already"):
        keras_amm.wrap(keras_amm.wrap(small_network()))


def test_images_and_labels_apart():
    x, y = small_data(4)
    with pytest.raises(TypeError, match=r"a pair \(x, y\)"):
        keras_amm.evaluate_margins(small_network(), x, y)
    with pytest.raises(ValueError, match=r"equally many\. Received: 4 and 3"):
        keras_amm.DeepFool().perturb(small_network(), x, y[:3])
