"""The methods that the paper compares with: each by a value computed by hand, and each as it learns."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from paper import methods
from paper.data import data_sets
from paper.methods import (
    bayes_by_backprop,
    contractive,
    disturb_label,
    dlsvm,
    dropconnect,
    em_softmax,
    jacobian,
    l_softmax,
)
from paper.methods.method import ObjectiveModel
from paper.reproduce import experiments
from paper.training import fitting, trainer
from tests.helpers.training_settings import resolve

# One image, of norm 2.5, and its distance to the boundary 3 a + 4 b = 5.
IMAGE, LABEL, DISTANCE = np.array([[2.0, 1.5]], "float32"), np.array([1]), 7 / 5
OVERSHOT = 1.02 * DISTANCE


@pytest.fixture
def line():
    """Two logits, 0 and 3 a + 4 b - 5."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[0.0, 3.0], [0.0, 4.0]]), np.array([0.0, -5.0])])
    return model


def test_squared_hinge():
    scores = np.array([[0.5, -0.5, 2.0]], "float32")
    # Short of 1 by 0.5 for the label, and of -1 by 0.5 and 3.
    assert float(dlsvm.SquaredHinge(2.0)(np.array([0]), scores)) == pytest.approx(2 * (0.25 + 0.25 + 9.0))


def test_noise_fades():
    layer = dlsvm.FadingNoise()
    x = np.zeros((10_000, 1), "float32")
    layer(x)
    fade = dlsvm.Fade(layer, 0.4)
    fade.set_params({"epochs": 4})
    for epoch, deviation in enumerate((0.4, 0.3, 0.2, 0.1)):
        fade.on_epoch_begin(epoch)
        assert np.std(layer(x, training=True)) == pytest.approx(deviation, rel=0.03)
    assert not np.any(layer(x))


def test_disturbed_labels():
    labels = tf.fill([100_000], 3)
    shares = np.bincount(disturb_label.disturbed(labels, 0.3, 10, [0, 0]), minlength=10) / 100_000
    np.testing.assert_allclose(shares, np.where(np.arange(10) == 3, 1 - 0.3 * 9 / 10, 0.3 / 10), atol=0.005)


def test_labels_are_disturbed_anew_in_each_epoch(data_dir):
    """They are those of the seed and the epoch, for a training that is resumed."""
    method = methods.build("disturb-label", ["rate=1"])
    first, second = (
        method.disturb(data_sets.load("cifar100", 5, 0, 0, shuffle=False, data_dir=data_dir), seed=0) for _ in range(2)
    )
    epochs = []
    for data, epoch in ((first, 0), (first, 1), (second, 1)):
        data.epoch.assign(epoch)
        epochs.append(np.concatenate([y for _, y in data.train]))
    assert len(first.train) == 4 and (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(epochs[1], epochs[2])


def test_dropconnect():
    layer = dropconnect.DropConnectReLU(1, keep=0.5)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0], [2.0]]), np.array([0.5])])
    v = np.array([[3.0, 1.0]], "float32")
    mean, variance = 0.5 * (3 + 2 + 0.5), 0.25 * (9 + 4 + 0.25)
    # All is positive, so that the ReLU of a masked sum is the sum itself.
    drawn = np.asarray(layer(np.repeat(v, 20_000, axis=0), training=True))
    assert (np.mean(drawn), np.var(drawn)) == pytest.approx((mean, variance), rel=0.03)
    assert len(np.unique(drawn)) == 2**3
    z, deviation = mean / math.sqrt(variance), math.sqrt(variance)
    assert float(layer(v)[0, 0]) == pytest.approx(mean * stats.norm.cdf(z) + deviation * stats.norm.pdf(z))
    layer.shared = True
    assert len(np.unique(layer(np.repeat(v, 100, axis=0), training=True))) == 1
    layer.keep = 1.0
    assert float(layer(v)[0, 0]) == float(layer(v, training=True)[0, 0]) == pytest.approx(5.5)


def test_contraction():
    np.testing.assert_allclose(contractive.Contraction()(np.diag([3.0, 0.5])), np.diag([1.0, 0.5]), atol=1e-6)


def test_what_is_validated_is_contracted():
    variable = keras.Variable(np.diag([3.0, 0.5]))
    contract = contractive.Contract([(variable, contractive.Contraction())], interval=10)
    contract.on_train_batch_end(0)
    np.testing.assert_allclose(variable, np.diag([3.0, 0.5]))
    contract.on_test_begin()
    np.testing.assert_allclose(variable, np.diag([1.0, 0.5]), atol=1e-6)


def test_contractive_layers():
    """No two images are further apart behind a layer, by the limits of its kernel."""
    random = np.random.default_rng(0)
    for layer, shape, limit in (
        (keras.layers.Dense(5), (8,), 1.0),
        (keras.layers.Conv2D(4, 5), (9, 9, 2), 1 / 5),
        (keras.layers.Conv2D(4, 3, 2, padding="same"), (9, 9, 2), 1 / 2),
    ):
        layer.build((None, *shape))
        assert contractive.contraction_limit(layer) == pytest.approx(limit)
        layer.kernel.assign(contractive.Contraction(limit)(10.0 * layer.kernel))
        one, other = random.normal(size=(2, 20, *shape)).astype("float32")
        before, after = (
            np.linalg.norm(np.reshape(d, (20, -1)), axis=1) for d in (one - other, layer(one) - layer(other))
        )
        assert np.all(after <= before * (1 + 1e-5))


def test_angular_margin():
    angles = np.linspace(0.01, np.pi - 0.01, 50)
    for m in (1, 2, 3, 4):
        k = np.floor(angles * m / np.pi)
        expected = (-1) ** k * np.cos(m * angles) - 2 * k
        np.testing.assert_allclose(l_softmax.psi(np.cos(angles), m), expected, atol=1e-6)
        assert np.all(np.diff(expected) < 0.0)


def test_l_softmax():
    """|x| = 5 and cos(theta) = 0.6, so psi = cos(2 theta) = 2 0.36 - 1; with lambda = 1 the logit is their mean."""
    method = methods.build("l-softmax", ["multiple=2"])
    x, kernel, y = np.array([[3.0, 4.0]], "float32"), np.eye(2, dtype="float32"), np.array([0])
    logit = (3.0 + 5.0 * (2 * 0.36 - 1)) / 2
    assert float(method.loss_of(x, kernel, y, x @ kernel, 1.0)) == pytest.approx(math.log(1 + math.exp(4.0 - logit)))


def test_l_softmax_mixes_less_from_step_to_step():
    """Of x = (3, 4) and the two axes as kernels, by lambda = base (1 + gamma iteration)^(-power), at least `least`."""
    inputs = keras.Input((2,))
    network = keras.Model(inputs, keras.layers.Dense(2, use_bias=False)(inputs))
    network.set_weights([np.eye(2)])
    method = methods.build("l-softmax", ["multiple=2", "base=4", "gamma=1", "power=2", "least=0.5"])
    model = method.wrap(network)
    model.compile("sgd", method.loss)
    x, y = tf.constant([[3.0, 4.0]]), np.array([0])
    for iteration, mixing in ((0, 4.0), (1, 1.0), (9, 0.5)):
        model.optimizer.iterations.assign(iteration)
        logit = (mixing * 3.0 + 5.0 * (2 * 0.36 - 1)) / (1 + mixing)
        expected = math.log(1 + math.exp(4.0 - logit))
        assert float(model.compute_loss(x, y, network(x), training=True)) == pytest.approx(expected)


def test_l_softmax_of_an_image_without_features():
    features, kernel = tf.zeros((1, 2)), tf.ones((2, 3))
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = methods.build("l-softmax").loss_of(features, kernel, np.array([0]), tf.matmul(features, kernel), 1.0)
    assert np.all(np.isfinite(tape.gradient(loss, features)))


def test_soft_margin():
    loss = em_softmax.soft_margin_cross_entropy(np.array([0]), np.array([[2.0, 1.0]], "float32"), margin=0.5)
    assert float(loss[0]) == pytest.approx(math.log(1 + math.exp(-0.5)))


def test_dependence():
    """K = [[1, -1], [-1, 1]], which H leaves, and L = [[4, 0], [0, 0]], of which H makes [[1, -1], [-1, 1]]."""
    assert float(em_softmax.dependence(np.array([[1.0, -1.0]]), np.array([[2.0, 0.0]]))) == pytest.approx(4.0)
    random = np.random.default_rng(0)
    one, other, h = random.normal(size=(7, 3)), random.normal(size=(7, 3)), np.eye(3) - 1 / 3
    trace = np.trace(one.T @ one @ h @ other.T @ other @ h)
    assert float(em_softmax.dependence(one, other)) == pytest.approx(trace / 4)


def test_em_softmax():
    """Two last layers on the features (1, 2), with the logits (1, 2) and (2, 0): the sum of their losses, and HSIC."""
    inputs = keras.Input((2,))
    network = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    method = methods.build("em-softmax", ["margin=0.5", "diversity=3"])
    rebuilt = method.rebuild(network, 1)
    kernels = np.array([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.0]]])
    for number, kernel in enumerate(kernels):
        rebuilt.get_layer(f"classifier_{number}").set_weights([kernel, np.zeros(2)])
    x, y = tf.constant([[1.0, 2.0]]), np.array([0])
    np.testing.assert_allclose(rebuilt(x), [[1.5, 1.0]])
    # The label's logit is 0.5 lower: 0.5 against 2, and 1.5 against 0.
    losses = math.log(1 + math.exp(1.5)) + math.log(1 + math.exp(-1.5))
    centre = np.eye(2) - 1 / 2
    gram = [kernel.T @ kernel for kernel in kernels]
    expected = losses + 3.0 * np.trace(gram[0] @ centre @ gram[1] @ centre)
    model = method.wrap(rebuilt)
    assert float(model.compute_loss(x, y, rebuilt(x), training=True)) == pytest.approx(expected, rel=1e-5)


def test_complexity():
    layer = bayes_by_backprop.BayesianDense(1, 2, "relu", portion=0.25, wide=1.0, narrow=0.1, rho=-5.0)
    w = np.float32(0.3)
    prior = math.log(0.25 * stats.norm.pdf(0.3, 0, 1) + 0.75 * stats.norm.pdf(0.3, 0, 0.1))
    expected = (stats.norm.logpdf(0.3, 0.2, 0.5) - prior) / 2
    assert float(layer.complexity(w, np.float32(0.2), np.float32(0.5))) == pytest.approx(expected, rel=1e-5)


def test_weight_decay_draws_a_deviation_to_where_it_began():
    layer = bayes_by_backprop.BayesianDense(2, 1, None, portion=0.5, wide=1.0, narrow=0.1, rho=-5.0)
    layer(np.ones((1, 3), "float32"))
    for rho in (layer.kernel_rho, layer.bias_rho):
        assert not np.any(rho)


def test_drawn_weights():
    """Their deviation is log(1 + exp(rho)) in training; in inference they are the means."""
    layer = bayes_by_backprop.BayesianDense(10_000, 1, None, portion=0.5, wide=1.0, narrow=0.1, rho=0.5)
    x = np.array([[1.0]], "float32")
    means = layer(x)
    np.testing.assert_allclose(means[0], layer.kernel[0])
    # Of a weight and a bias.
    deviation = math.sqrt(2) * math.log1p(math.exp(0.5))
    assert np.std(layer(x, training=True) - means) == pytest.approx(deviation, rel=0.03)
    assert len(layer.losses) == 2


def objective_of(name, line, given=()):
    """The objective of a method for the one image."""
    model = methods.build(name, given).wrap(line)
    assert isinstance(model, ObjectiveModel)
    return float(model.compute_loss(tf.constant(IMAGE), LABEL, line(IMAGE), training=True))


CROSS_ENTROPY = math.log(1 + math.exp(-7.0))


def test_jacobian(line):
    assert float(jacobian.squared_jacobian(line, tf.constant(IMAGE))[0]) == pytest.approx(9.0 + 16.0)
    assert objective_of("jacobian", line, ["strength=0.1"]) == pytest.approx(CROSS_ENTROPY + 2.5)


def test_mma(line):
    """At the boundary point the two logits are equal; beyond d_max an image no longer counts."""
    found = methods.build("mma").search(line, tf.constant(IMAGE), LABEL)
    np.testing.assert_allclose(found, DISTANCE * np.array([[-0.6, -0.8]]), atol=2.1 / 2**10)
    assert objective_of("mma", line) == pytest.approx(CROSS_ENTROPY / 3 + 2 / 3 * math.log(2.0), abs=0.01)
    assert objective_of("mma", line, ["largest=1.2"]) == pytest.approx(CROSS_ENTROPY / 3, abs=1e-6)
    wrong = np.array([0])
    model = methods.build("mma").wrap(line)
    assert float(model.compute_loss(tf.constant(IMAGE), wrong, line(IMAGE), training=True)) == pytest.approx(
        7.0 + CROSS_ENTROPY, abs=1e-5
    )


@pytest.mark.parametrize(
    ("name", "given", "label", "expected"),
    [
        ("elsayed", ["strength=10", "threshold=2"], 1, 10 * (2 - OVERSHOT)),
        ("elsayed", ["strength=10", "threshold=2"], 0, 10 * (2 + OVERSHOT)),
        ("deep-defense", ["strength=10", "c=2"], 1, 10 * math.exp(-2 * OVERSHOT)),
        ("deep-defense", ["strength=10", "d=1"], 0, 10 * math.exp(OVERSHOT)),
        # The bound of an image's penalty, beyond which it has no pull.
        ("deep-defense", ["strength=10", "d=2"], 0, 50.0),
        ("deep-defense-relative", [], 1, 15 * math.exp(-25 * OVERSHOT / 2.5)),
        ("deep-defense-relative", ["strength=1"], 0, math.exp(5 * OVERSHOT / 2.5)),
    ],
)
def test_penalties_of_distances(line, name, given, label, expected):
    penalty = methods.build(name, given).wrap(line).margin_penalty(IMAGE, np.array([label]))
    assert float(penalty) == pytest.approx(expected, rel=1e-4)


def test_elsayed_is_that_of_table_2():
    config = methods.build("elsayed").regularizer.get_config()
    assert {name: config[name] for name in experiments.ELSAYED.settings if name in config} == {
        name: value for name, value in experiments.ELSAYED.settings.items() if name != "max_iterations"
    }


# Where the defaults take longer than a few steps.
QUICKER = {"bayes-by-backprop": ["narrow=0.1"], "l-softmax": ["base=10"], "mma": ["steps=2", "halvings=3"]}
# The library's own tests train with these penalties.
OF_THE_LIBRARY = {"elsayed", "deep-defense", "deep-defense-relative"}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", [name for name in methods.METHODS if name not in OF_THE_LIBRARY])
def test_learns(name, tmp_path):
    """The loss falls, and what is kept is a deterministic network that can be loaded."""
    random = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (random.random((60, 4, 4, 1)) * 0.3 + np.eye(3, 16)[y].reshape(60, 4, 4, 1)).astype("float32")
    inputs = keras.Input((4, 4, 1))
    hidden = keras.layers.Dense(16, "relu")(keras.layers.Flatten()(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3)(hidden))
    before = network(x[:5])
    method = methods.build(name, QUICKER.get(name, ()))
    rebuilt = method.rebuild(network, len(x))
    if name not in ("dropconnect", "l-softmax", "em-softmax"):
        np.testing.assert_allclose(rebuilt(x[:5]), before, rtol=1e-5)
    model = method.wrap(rebuilt)
    fitting.compile_model(model, 0.02, [], [], steps_per_epoch=3, loss=method.loss)
    losses = model.fit(x, y, 20, epochs=8, verbose=0, callbacks=method.callbacks(rebuilt)).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    logits = rebuilt(x)
    assert np.mean(np.argmax(logits, axis=1) == y) > 0.5
    # Of the others Keras knows all layers.
    if name in ("dlsvm", "dropconnect", "bayes-by-backprop"):
        fitting.to_measure(rebuilt).save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(loaded(x), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("eagerly", "linear")
def test_trained_by_the_shared_trainer(tmp_path, data_dir):
    given = {"epochs": 2, "batch_size": 10, "drop_at": [], "data_dir": data_dir, "eval_margins": 2}
    settings = resolve("cifar100", "lenet", method="dlsvm", method_settings=["strength=0.1"], **given)
    assert settings["method_settings"] == {"strength": 0.1, "noise": 0.3} and not settings["amm"]
    result = trainer.train(settings, tmp_path)
    assert result["config"]["method"] == "dlsvm"
    losses = [row["loss"] for row in result["history"]]
    assert losses[1] < losses[0]
    # The cross-entropy of the network, whatever loss trained it.
    assert abs(result["cross_entropy"] - math.log(100)) < 2.0
    assert keras.models.load_model(tmp_path / "model.keras").output_shape == (None, 100)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"method": "mma", "method_settings": ["speed=1"]},
            "Expected settings of mma: largest, .* Received: 'speed=1'",
        ),
        ({"method": "mma", "method_settings": ["steps=few"]}, "a number after steps=. Received: 'steps=few'"),
        ({"method": "l-softmax", "method_settings": ["multiple=3.7"]}, "a whole number after multiple=. Received"),
        ({"method": "dropconnect", "method_settings": ["shared=0.5"]}, "Expected 0 or 1 after shared=. Received"),
        ({"method_settings": ["rate=1"]}, "--method_settings goes with --method. Received: rate=1"),
        ({"method": "mma", "two_step": True}, "trains a reference for AMM"),
        ({"method": "mma", "strategy": "mirrored"}, "Methods train on one device"),
    ],
)
def test_settings_that_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        resolve("cifar10", "lenet", **given)


def test_networks_that_do_not_fit():
    pooled = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match=r"ends with a dense layer. Received: GlobalAveragePooling2D"):
        methods.build("l-softmax").rebuild(pooled, 1)
    flat = [keras.Input((4, 4, 3)), keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(2)]
    with pytest.raises(ValueError, match="needs a network with hidden dense layers"):
        methods.build("dropconnect").rebuild(keras.Sequential(flat), 1)
    with pytest.raises(ValueError, match="Received: one with BatchNormalization"):
        methods.build("crn").rebuild(keras.Sequential(flat), 1)
    with pytest.raises(ValueError, match=r"ends with a dense layer. Received: GlobalAveragePooling2D"):
        methods.build("crn").rebuild(pooled, 1)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (keras.layers.MaxPooling2D(3, strides=2), "MaxPooling2D with overlap"),
        (keras.layers.Activation("gelu"), "Activation of activation gelu"),
        (keras.layers.Conv2D(2, 3, activation="silu"), "Conv2D of activation silu"),
    ],
)
def test_layers_that_may_bring_images_further_apart(layer, said):
    layers = [keras.Input((6, 6, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(2)]
    with pytest.raises(ValueError, match=f"Received: one with {said}"):
        methods.build("crn").rebuild(keras.Sequential(layers), 1)
