"""Images divided by a deviation, with margins in the units of the pixels before the division."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.measuring.measurer import Measurer

MEAN, DEVIATION = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.5])
SHAPE = (4, 4, 3)


def data(number=20):
    pixels = np.random.default_rng(0).uniform(size=(number, *SHAPE)).astype("float32")
    return pixels, ((pixels - MEAN) / DEVIATION).astype("float32"), np.arange(number) % 4


def networks(activation="tanh"):
    """A network of divided images, and the same one that takes pixels and divides them itself."""
    keras.utils.set_random_seed(3)
    network = keras.Sequential(
        [keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(12, activation), keras.layers.Dense(4)]
    )
    dividing = keras.layers.Rescaling(1 / DEVIATION, -MEAN / DEVIATION)
    return network, keras.Sequential([keras.Input(SHAPE), dividing, network])


ATTACK = keras_amm.DeepFool(deviation=DEVIATION)


class TestPerturb:
    def test_closed_form_of_a_linear_classifier(self):
        _, x, _ = data()
        network = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(2)])
        kernel, bias = network.get_weights()
        w, b = kernel[:, 1] - kernel[:, 0], bias[1] - bias[0]
        per_input = np.tile(DEVIATION, 16)
        # The logit difference falls fastest per unit of a pixel along w / deviation.
        wanted = np.abs(x.reshape(20, -1) @ w + b) / np.linalg.norm(w / per_input)
        found = keras_amm.DeepFool(overshoot=0.0, deviation=DEVIATION).perturb(network, x)
        np.testing.assert_allclose(found.norm, wanted, rtol=1e-5)
        # In the space of the network, w / deviation is divided once more.
        direction = found.delta[0].numpy().ravel() / (w / per_input**2)
        np.testing.assert_allclose(direction, direction[0], rtol=1e-4)

    @pytest.mark.parametrize(("jit_compile", "labelled"), [(None, False), (True, True)])
    def test_equals_the_network_that_takes_pixels(self, jit_compile, labelled):
        pixels, x, y = data()
        network, dividing = networks()
        labels = y if labelled else None

        def perturb(attack, model, images):
            function = lambda images: attack.perturb(model, images, labels)  # noqa: E731
            compiled = function if jit_compile is None else tf.function(function, jit_compile=jit_compile)
            return compiled(tf.constant(images))

        settings = {"refine_steps": 3, "num_candidates": 3}
        got = perturb(keras_amm.DeepFool(**settings, deviation=DEVIATION), network, x)
        wanted = perturb(keras_amm.DeepFool(**settings), dividing, pixels)
        np.testing.assert_allclose(got.norm, wanted.norm, rtol=1e-4)
        np.testing.assert_allclose(got.delta * DEVIATION, wanted.delta, atol=1e-5)
        np.testing.assert_array_equal(got.target, wanted.target)

    @pytest.mark.usefixtures("eagerly")
    def test_delta_is_for_the_network_and_the_norm_in_pixels(self):
        _, x, _ = data()
        network, _ = networks()
        found = ATTACK.perturb(network, x)
        assert np.all(found.success)
        assert np.all(np.argmax(network(x + found.delta), axis=1) != np.argmax(network(x), axis=1))
        in_pixels = (found.delta.numpy() * DEVIATION).reshape(20, -1)
        np.testing.assert_allclose(found.norm, np.linalg.norm(in_pixels, axis=1), rtol=1e-5)

    @pytest.mark.usefixtures("eagerly")
    def test_one_number(self):
        _, x, _ = data()
        network, _ = networks("relu")
        plain, half = (keras_amm.DeepFool(deviation=deviation).perturb(network, x) for deviation in (None, 0.5))
        np.testing.assert_allclose(half.norm, 0.5 * plain.norm, rtol=1e-5)
        np.testing.assert_allclose(half.delta, plain.delta, atol=1e-6)


@pytest.mark.usefixtures("eagerly")
class TestMeasuring:
    def test_evaluate_margins(self):
        pixels, x, y = data()
        network, dividing = networks()
        got = keras_amm.evaluate_margins(network, (x, y), ATTACK, verbose=0)
        wanted = keras_amm.evaluate_margins(dividing, (pixels, y), verbose=0)
        np.testing.assert_allclose(got.norms, wanted.norms, rtol=1e-4)
        np.testing.assert_allclose(got.signed, wanted.signed, rtol=1e-4)
        assert "pixel units" in got.units and "pixel units" in got.summary()
        again = keras_amm.MarginReport.from_json(got.to_json())
        assert len(keras_amm.MarginReport.concatenate([got, again])) == 40

    def test_a_wrapped_model_is_measured_in_its_own_units(self):
        _, x, y = data()
        network, _ = networks()
        model = keras_amm.AMMModel(network, attack=ATTACK)
        wanted = keras_amm.evaluate_margins(network, (x, y), ATTACK, verbose=0)
        assert keras_amm.evaluate_margins(model, (x, y), verbose=0).mean == pytest.approx(wanted.mean)
        logger = keras_amm.callbacks.MarginLogger((x, y))
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.optimizer.learning_rate = 0.0
        model.fit(x, y, batch_size=20, verbose=0, callbacks=[logger])
        np.testing.assert_allclose(logger.report.norms, wanted.norms, rtol=1e-4)

    def test_pictures_are_in_the_units_of_the_margin(self):
        pixels, x, y = data()
        network, _ = networks()
        measurer = Measurer(network, ATTACK, num_nearest=4)
        measurer.add(x, y)
        found, report = measurer.nearest(), measurer.report()
        order = np.argsort(report.norms)[:4]
        np.testing.assert_allclose(found.images, (pixels - MEAN)[order], atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(found.deltas.reshape(4, -1), axis=1), report.norms[order], rtol=1e-5)
        np.testing.assert_array_equal(found.predictions, report.predictions[order])
        assert np.all(found.perturbed != found.predictions)

    def test_cross_section(self):
        _, x, _ = data()
        network, _ = networks()
        found = keras_amm.DeepFool(refine_steps=10, deviation=DEVIATION).perturb(network, x[:1])
        draw = keras_amm.plots.boundary_cross_section
        for model, given in (
            (network, {"perturbation": found.delta[0], "attack": ATTACK}),
            (keras_amm.AMMModel(network, attack=ATTACK), {}),
        ):
            (circle,) = draw(model, x[0], resolution=5, **given).axes[0].patches
            assert circle.radius == pytest.approx(float(found.norm[0]), rel=1e-3)


class TestTraining:
    @pytest.mark.parametrize(
        ("gradient", "search"),
        [("unrolled", "exact"), ("masked", "exact"), ("boundary", "exact"), ("boundary", "ranks")],
    )
    def test_penalty_and_gradient(self, gradient, search):
        pixels, x, y = data()
        network, dividing = networks()

        def penalty(classifier, attack, images):
            regularizer = keras_amm.MarginRegularizer(32.0, gradient=gradient, search=search)
            model = keras_amm.AMMModel(classifier, regularizer, attack)
            with tf.GradientTape() as tape:
                value = model.margin_penalty(images, y)
            return value, tape.gradient(value, network.trainable_weights)

        (value, gradients), (wanted, theirs) = penalty(network, ATTACK, x), penalty(dividing, None, pixels)
        assert value > 0
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
        for got, own in zip(gradients, theirs, strict=True):
            np.testing.assert_allclose(got, own, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}])
    def test_fit(self, how, trained_on_pixels):
        logs, weights = _trained(networks()[0], data()[1], DEVIATION, **how)
        wanted_logs, wanted = trained_on_pixels
        for name, values in wanted_logs.items():
            np.testing.assert_allclose(logs[name], values, rtol=1e-3, err_msg=name)
        for got, own in zip(weights, wanted, strict=True):
            np.testing.assert_allclose(got, own, rtol=1e-3, atol=1e-5)


def _trained(network, images, deviation, **how):
    attack = keras_amm.DeepFool(num_candidates=2, deviation=deviation)
    model = keras_amm.AMMModel(network, keras_amm.MarginRegularizer(gradient="boundary"), attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05), loss, **how)
    history = model.fit(images, data()[2], batch_size=10, shuffle=False, verbose=0).history
    return history, model.get_weights()


@pytest.fixture(scope="module")
def trained_on_pixels():
    return _trained(networks()[1], data()[0], None, run_eagerly=True)


class TestArguments:
    def test_configuration(self):
        again = keras_amm.DeepFool.from_config(ATTACK.get_config())
        assert again.get_config()["deviation"] == [0.2, 0.3, 0.5]
        assert keras_amm.DeepFool(deviation=(np.float32(0.5),)).deviation == 0.5
        old = {name: value for name, value in ATTACK.get_config().items() if name != "deviation"}
        assert keras_amm.DeepFool.from_config(old).deviation is None

    def test_saving(self, tmp_path):
        _, x, y = data(4)
        model = keras_amm.AMMModel(networks()[0], attack=ATTACK)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        assert again.attack.deviation == [0.2, 0.3, 0.5]
        np.testing.assert_allclose(again.margin_penalty(x, y), model.margin_penalty(x, y), rtol=1e-5)

    @pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan"), "0.2", (), (0.2, 0.0), [[0.2]], "wide"])
    def test_what_is_no_deviation(self, deviation):
        with pytest.raises(ValueError, match=r"`deviation` must be a positive number, or a sequence.*Received"):
            keras_amm.DeepFool(deviation=deviation)

    def test_another_number_of_channels(self):
        _, x, _ = data(2)
        with pytest.raises(ValueError, match=r"one per channel.*Received: 2 numbers, and images of shape"):
            keras_amm.DeepFool(deviation=(0.2, 0.3)).perturb(networks()[0], x)

    def test_a_model_of_whole_numbers(self):
        model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Rescaling(0.1), keras.layers.Dense(3)])
        with pytest.raises(ValueError, match=r"takes whole numbers\. Expected: no deviation"):
            keras_amm.DeepFool(deviation=0.5).perturb(model, np.ones((2, 4), "int32"))
