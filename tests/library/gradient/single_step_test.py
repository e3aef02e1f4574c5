"""The single-step hinge penalty of Elsayed et al. (2018), against its own formula."""

import numpy as np
import tensorflow as tf

import keras_amm
from tests.helpers import zoo


def linear_margins(network, x, labels):
    """The distance to the nearest linearised boundary, input gradients held constant; negative where misclassified."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = network(x)
    jacobian = tf.stop_gradient(tf.reshape(tape.batch_jacobian(logits, x), (len(x), zoo.CLASSES, -1)))
    margins = []
    for f, gradients, label in zip(network(x), jacobian, labels, strict=True):
        predicted = int(tf.argmax(f))
        others = [label] if predicted != label else [k for k in range(zoo.CLASSES) if k != label]
        distances = [(f[predicted] - f[k]) / tf.norm(gradients[predicted] - gradients[k]) for k in others]
        margins.append(tf.reduce_min(distances) if predicted == label else -distances[0])
    return tf.stack(margins)


def test_value_and_gradient():
    network = zoo.build("relu_mlp")
    x = tf.convert_to_tensor(zoo.images(12))
    labels = np.argmax(network(x), axis=1)
    labels[:4] = (labels[:4] + 1) % zoo.CLASSES
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength=3.0, aggregation="avg", shrinkage="hinge", c=0.5, gradient="masked", only_successful=False
    )
    attack = keras_amm.DeepFool(max_iterations=1, overshoot=0.0)
    model = keras_amm.wrap(network, regularizer=regularizer, attack=attack)
    weights = network.trainable_variables
    with tf.GradientTape() as tape:
        penalty = model.margin_penalty(x, labels)
    found = tape.gradient(penalty, weights)
    with tf.GradientTape() as tape:
        margins = linear_margins(network, x, labels)
        expected = 3.0 * tf.reduce_mean(tf.nn.relu(0.5 - margins))
    np.testing.assert_allclose(penalty, expected, rtol=1e-5)
    for ours, theirs in zip(found, tape.gradient(expected, weights), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    # Some attacks do fail in one step, and they do count.
    success = attack.perturb(network, x, labels).success
    assert 0 < np.count_nonzero(success) < len(x)
    model.regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength=3.0, aggregation="avg", shrinkage="hinge", c=0.5, gradient="masked"
    )
    assert float(model.margin_penalty(x, labels)) < float(penalty)
