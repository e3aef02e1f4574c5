"""Training with attacks other than DeepFool: where it is possible, what is refused, and that it is saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm

# Training does not bisect.
ATTACKS = (
    keras_amm.FastMinimumNorm(6),
    keras_amm.SuperDeepFool(2, overshoot=1e-3, refine_steps=0),
    keras_amm.DeepFool(50, overshoot=1e-3, bounds=(-9, 9)),
)
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)


def wrapped(attack, **arguments):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="linear")])
    arguments = {"aggregation": "avg", "shrinkage": "lin", "misclassified": "all", "gradient": "boundary", **arguments}
    regularizer = keras_amm.MarginRegularizer(
        strength=1.0, c=1.0, d=1.0, normalize=None, max_influence=None, **arguments
    )
    return keras_amm.wrap(network, regularizer, attack)


def batch():
    rng = np.random.default_rng(1)
    return rng.normal(size=(8, 3)).astype("float32"), np.arange(8) % 3


@pytest.mark.usefixtures("eagerly")
@each_attack
@pytest.mark.parametrize("search", ["exact", "ranks"])
def test_the_penalty_is_that_of_the_margins(attack, search):
    """The mean norm, negative for correct samples; best first, other attacks search every sample all the same."""
    model, (x, y) = wrapped(attack, search=search), batch()
    found = attack.perturb(model, x, y)
    correct = np.argmax(model(x), axis=1) == y
    assert 0 < np.mean(correct) < 1 and np.all(found.success)
    wanted = np.mean(np.where(correct, -1.0, 1.0) * found.norm)
    assert float(model.margin_penalty(x, y)) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.usefixtures("eagerly")
@each_attack
def test_its_gradient_is_that_of_a_linear_classifier(attack):
    """By differences of the closed form |g| / ||w||, where each image keeps its source and target."""
    model, (x, y) = wrapped(attack, misclassified="none"), batch()
    found = attack.perturb(model, x, y)
    index = np.flatnonzero(np.argmax(model(x), axis=1) == y)
    target, source = np.asarray(found.target)[index], y[index]
    kernel, bias = model.trainable_variables
    with tf.GradientTape() as tape:
        penalty = model.margin_penalty(x, y)
    got = tape.gradient(penalty, kernel)
    with tf.GradientTape() as tape:
        w = tf.gather(tf.transpose(kernel), target) - tf.gather(tf.transpose(kernel), source)
        g = tf.reduce_sum(w * x[index], axis=1) + tf.gather(bias, target) - tf.gather(bias, source)
        wanted = -tf.reduce_sum(tf.abs(g) / tf.norm(w, axis=1)) / 8
    np.testing.assert_allclose(got, tape.gradient(wanted, kernel), rtol=0.03, atol=2e-3)


@each_attack
@pytest.mark.parametrize("gradient", ["unrolled", "masked"])
def test_only_steps_of_deepfool_are_unrolled(attack, gradient):
    with pytest.raises(ValueError, match=r"any attack can search.* Received: attack=" + type(attack).__name__):
        wrapped(attack, gradient=gradient)


def test_screening_is_of_deepfool():
    with pytest.raises(ValueError, match="`screening` is a part of DeepFool's search"):
        wrapped(keras_amm.SuperDeepFool(), search="exact", screening=0.5, aggregation="min")


def test_what_is_no_attack_is_refused():
    with pytest.raises(TypeError, match=r"another keras_amm.Attack, or None. Received: attack of type str"):
        keras_amm.wrap(keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]), attack="fmn")


def test_training_and_saving(tmp_path):
    model, (x, y) = wrapped(keras_amm.FastMinimumNorm(6, bounds=(-9, [9, 9, 9]))), batch()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    assert history.history["attack_success"] == [1.0, 1.0]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.attack.get_config() == model.attack.get_config()
    np.testing.assert_allclose(loaded.margin_penalty(x, y), model.margin_penalty(x, y), rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_measuring_and_logging():
    """With misclassified images, which are attacked towards their label as well."""
    model, (x, y) = wrapped(keras_amm.FastMinimumNorm(6)), batch()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    attack = keras_amm.SuperDeepFool(2)
    report = keras_amm.evaluate_margins(model, (x, y), attack, verbose=0)
    np.testing.assert_allclose(report.norms, attack.perturb(model, x).norm, rtol=1e-5)
    wrong = report.predictions != report.labels
    assert np.any(wrong)
    np.testing.assert_allclose(report.signed[wrong], -attack.perturb(model, x, y).norm[wrong], rtol=1e-5)
    assert report.attack["name"] == "SuperDeepFool" and "name=SuperDeepFool" in report.summary()
    logger = keras_amm.callbacks.MarginLogger((x, y), attack=attack)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[logger])
    assert logger.report.attack == report.attack
