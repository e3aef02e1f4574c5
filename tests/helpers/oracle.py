"""Slow, obvious twins of the fast computations: one sample at a time, one step at a time."""

import keras
import numpy as np
import tensorflow as tf

from keras_amm.network.kernels.moments import twice_differentiable_moments
from keras_amm.network.kernels.replaced import replaced


def logits_of(model, batch=None):
    """The logits of a zoo network, whose softmax head is found through its last layer.

    BatchNormalization normalises by mean and variance of the batch, or by its moving statistics without one.
    """
    statistics = [] if batch is None else _statistics(model, batch)

    def logits(x):
        # TensorFlow's own cannot be differentiated twice.
        with replaced(tf.nn, moments=twice_differentiable_moments), keras.StatelessScope(statistics):
            output = model(x, training=False)
        return getattr(output, "_keras_logits", output)

    return logits


def _statistics(model, batch):
    """What the moving statistics would be if they were those of the batch alone."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    with replaced(tf.nn, moments=twice_differentiable_moments), keras.StatelessScope() as scope:
        model(batch, training=bool(layers))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    variables = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    return [(variable, scope.get_current_value(variable)) for variable in variables]


def deepfool(logits, x, label=None, *, max_iterations=6, num_candidates=10, overshoot=0.02, masked=False, norm="l2"):
    """DeepFool of one image [...], differentiable step by step under a tape.

    Returns norm, delta, iterations, success.
    """
    length = tf.norm if norm == "l2" else lambda delta: tf.reduce_max(tf.abs(delta))
    point = x
    first = logits(x[None])[0]
    prediction = int(np.argmax(first))
    ranked = np.argsort(-first.numpy(), kind="stable")[:num_candidates]
    targeted = label is not None and prediction != label
    source, steps = prediction, 0
    delta = tf.zeros_like(x)
    for _ in range(max_iterations):
        candidates = [label] if targeted else [k for k in ranked if k != prediction]
        best = None
        for k in candidates:
            with tf.GradientTape() as tape:
                tape.watch(point)
                values = logits(point[None])[0]
                g = values[k] - values[source]
            w = tape.gradient(g, point)
            if masked:
                w = tf.stop_gradient(w)
            distance = abs(float(g)) / float(tf.norm(w) if norm == "l2" else tf.reduce_sum(tf.abs(w)))
            if best is None or distance < best[0]:
                best = (distance, g, w)
        _, g, w = best
        of_rise_one = w / tf.reduce_sum(w * w) if norm == "l2" else tf.sign(w) / tf.reduce_sum(tf.abs(w))
        step = -(1.0 + overshoot) * g * of_rise_one
        delta = delta + step
        point = x + delta
        steps += 1
        now = int(np.argmax(logits(point[None])[0]))
        if (now == label) if targeted else (now != prediction):
            return length(delta), delta, steps, True
        if targeted:
            source = now
    return length(delta), delta, steps, False


def penalty(logits, x, y, *, strength, aggregation, shrinkage, c, d, masked=False, norm="l2"):
    """Equation 6 written out over a batch, differentiable under a tape."""
    x = tf.convert_to_tensor(x)
    predictions = np.argmax(logits(x), axis=1)
    right, wrong = [], []
    for i, label in enumerate(y):
        found, _, _, success = deepfool(logits, x[i], int(label), masked=masked, norm=norm)
        if success:
            (right if predictions[i] == label else wrong).append((float(found), i, int(label), found))
    if aggregation == "min":
        right, wrong = _nearest(right, len(y)), _nearest([(-n, i, k, t) for n, i, k, t in wrong], len(y))
    total = tf.zeros(())
    for *_, norm in right:
        total += min_of(strength * _shrink(shrinkage, -c * norm), 50.0, shrinkage)
    for *_, norm in wrong:
        if shrinkage == "exp":
            norm = tf.minimum(norm, np.log(50.0 / strength + 1.0) / d)
        if shrinkage == "inv":
            norm = tf.minimum(norm, (1.0 - strength / 50.0) / d)
        total += min_of(strength * _shrink(shrinkage, d * norm), 50.0, shrinkage)
    return total / len(y)


def min_of(value, cap, shrinkage):
    return value if shrinkage == "lin" else tf.minimum(value, cap)


def _nearest(samples, batch_size):
    samples = sorted(samples, key=lambda s: s[:2])[: max(1, int(0.2 * batch_size))]
    chosen = {}
    for sample in samples:
        chosen.setdefault(sample[2], sample)
    return list(chosen.values())


def _shrink(name, t):
    return {"lin": lambda: t, "exp": lambda: tf.exp(t), "inv": lambda: 1.0 / (1.0 - t)}[name]()
