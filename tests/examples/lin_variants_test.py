"""Variants of MLP-800 with LIN: their networks, settings and penalties."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from paper import architectures
from paper.data.arrays import MNIST_MEAN
from paper.reproduce import experiments
from paper.variants import comparison, lin
from paper.variants.lin import LIN_VARIANTS, build_mlp


def test_network():
    """Where nothing differs it is `mlp-800`."""
    ours, expected = build_mlp(LIN_VARIANTS["avg-lin.ours"]), architectures.build("mlp-800")
    ours.set_weights(expected.get_weights())
    x = np.random.default_rng(0).random((5, 28, 28, 1), "float32") - MNIST_MEAN
    np.testing.assert_allclose(ours(x), expected(x), rtol=1e-5, atol=1e-6)


ROWS = [
    getattr(experiments, f"{aggregation}_{shrinkage}")
    for aggregation in ("AVG", "MIN")
    for shrinkage in ("LIN", "INV", "EXP")
]
DIFFERENCES = {
    "ours": {},
    "rate": {"learning_rate": 1e-2},
    "selected": {"divisor": "selected"},
    "squared-hinge": {"loss": "squared-hinge"},
    "all-wrong": {"misclassified": "all"},
    "no-decay": {"l2": 0.0},
    "more-decay": {"l2": 5e-4},
    "untruncated": {"initialisation": "msra-untruncated"},
    "pytorch": {"initialisation": "pytorch"},
    "fixed-batches": {"shuffle": False},
    "deviation": {"scale": 1 / 0.3081},
    "deviation-unit": {"scale": 1 / 0.3081, "unit": 0.3081},
    "no-mean": {"mean": 0.0},
    "steps": {"max_iterations": 5},
    "one-step": {"max_iterations": 1, "only_successful": False, "screening": None},
    "unclipped": {"global_clipnorm": None},
    "unscreened": {"screening": None},
    **{f"c-{c}": {"c": c} for c in (0.5, 1.0, 2.0, 4.0)},
}


@pytest.mark.parametrize("arm", ROWS, ids=lambda arm: arm.name)
def test_settings(arm):
    """Each variant is Table 1's row but for what its name says; only MIN can be screened."""
    ours = LIN_VARIANTS[f"{arm.name}.ours"]
    config = lin.regularizer(ours).get_config()
    assert {name: config[name] for name in arm.settings} == dict(arm.settings)
    is_min = arm.settings["aggregation"] == "min"
    assert config["screening"] == (0.3 if is_min else None) and config["misclassified"] is None
    assert (f"{arm.name}.all-wrong" in LIN_VARIANTS) == is_min
    for name, variant in comparison.choose(LIN_VARIANTS, [arm.name]).items():
        differences = DIFFERENCES[name.partition(".")[2]]
        assert dataclasses.replace(variant, title=ours.title) == dataclasses.replace(ours, **differences), name


def test_initialisations():
    """Only what is not truncated has weights beyond twice and a bit the deviation."""
    for name, truncated in (("ours", True), ("untruncated", False)):
        keras.utils.set_random_seed(0)
        kernel = build_mlp(LIN_VARIANTS[f"avg-lin.{name}"]).get_weights()[0]
        assert np.std(kernel) == pytest.approx(np.sqrt(2 / 784), rel=0.01)
        assert (np.abs(kernel).max() < 2.4 * np.std(kernel)) == truncated


def test_averaged_penalty():
    """-c times the mean norm of the correct samples that count, and d times that of the wrong ones."""
    norm = tf.constant([1.0, 2.0, 3.0, 5.0, 7.0])
    correct, success = np.array([True, True, True, False, False]), np.array([True, True, False, True, True])
    for arm, c, labels, expected in (
        ("avg-lin", 4.0, [0, 1, 2, 3, 4], [-2.0, -2.0, 0.0, 2.0, 2.0]),
        # The nearest correct and the farthest wrong one of a label count.
        ("min-lin", 0.5, [0, 0, 2, 3, 3], [-0.5, 0.0, 0.0, 0.0, 4.0]),
    ):
        regularizer = lin.regularizer(LIN_VARIANTS[f"{arm}.selected"])
        with tf.GradientTape() as tape:
            tape.watch(norm)
            penalty = regularizer(norm, np.array(labels), correct, success)
        np.testing.assert_allclose(tape.gradient(penalty, norm), expected)
        assert float(penalty) == pytest.approx(np.dot(expected, norm))
        # Without wrong ones, and without correct ones, nothing is divided by zero.
        assert float(regularizer(norm[:1], np.zeros(1, int), correct[:1], success[:1])) == pytest.approx(-c)
        assert float(regularizer(norm[4:], np.zeros(1, int), correct[4:], success[4:])) == pytest.approx(28.0)


def test_margins_in_units_of_the_deviation():
    """The penalty is that of the same network whose images are divided by the deviation themselves."""
    variant = LIN_VARIANTS["avg-lin.deviation-unit"]
    inside = build_mlp(variant)
    outside = keras_amm.wrap(architectures.build("mlp-800"), regularizer=lin.regularizer(LIN_VARIANTS["avg-lin.ours"]))
    outside.set_weights(inside.get_weights())
    random = np.random.default_rng(0)
    x, y = random.random((20, 28, 28, 1), "float32"), random.integers(0, 10, 20)
    penalties = []
    for model, images in ((inside, x), (outside, x / 0.3081)):
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        penalties.append(model.train_on_batch(images, y, return_dict=True)["margin_penalty"])
    np.testing.assert_allclose(*penalties, rtol=1e-3)
