"""Inputs, outputs, labels, losses and metrics in dictionaries of one entry: as in plain Keras."""

import keras
import numpy as np
import pytest

import keras_amm

X = np.random.default_rng(0).random((20, 4)).astype("float32")
Y = (np.arange(20) % 3).astype("int32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Subclassed(keras.Model):
    """Takes and gives dictionaries, if told so."""

    def __init__(self, takes=None, gives=None, **kwargs):
        super().__init__(**kwargs)
        self.takes, self.gives = takes, gives
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        outputs = self.dense(inputs[self.takes] if self.takes else inputs)
        return {self.gives: outputs} if self.gives else outputs


def _subclassed(**names):
    model = Subclassed(**names)
    model({names["takes"]: X} if "takes" in names else X)
    return model


def _functional(takes_dictionary=False, gives_dictionary=False):
    inputs = keras.Input((4,), name="image")
    outputs = keras.layers.Dense(3, name="logits")(inputs)
    return keras.Model(
        {"image": inputs} if takes_dictionary else inputs, {"logits": outputs} if gives_dictionary else outputs
    )


@pytest.mark.parametrize(
    ("build", "x", "y", "loss", "metrics"),
    [
        (lambda: _functional(takes_dictionary=True), {"image": X}, Y, LOSS, ["accuracy"]),
        (lambda: _subclassed(takes="image"), {"image": X}, Y, LOSS, ["accuracy"]),
        (lambda: _functional(gives_dictionary=True), X, Y, LOSS, ["accuracy"]),
        (lambda: _functional(gives_dictionary=True), X, {"logits": Y}, {"logits": LOSS}, {"logits": ["accuracy"]}),
        (_functional, X, Y, {"logits": LOSS}, {"logits": ["accuracy"]}),
        (lambda: _subclassed(gives="logits"), X, {"logits": Y}, {"logits": LOSS}, {"logits": ["accuracy"]}),
        (lambda: _subclassed(takes="image", gives="out"), {"image": X}, {"out": Y}, {"out": LOSS}, ["accuracy"]),
    ],
    ids=["input", "subclassed input", "output", "output and y", "loss by name", "subclassed output", "both"],
)
def test_as_in_plain_keras(build, x, y, loss, metrics, request):
    if request.node.callspec.id != "both":
        request.getfixturevalue("eagerly")
    models = []
    for strength in (None, 0.0, 32.0):
        keras.utils.set_random_seed(0)
        network = build()
        regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", strength=strength or 0.0, gradient="boundary")
        model = network if strength is None else keras_amm.wrap(network, regularizer)
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=metrics)
        models.append((model, model.fit(x, y, verbose=0, shuffle=False, validation_data=(x, y)).history))
    (plain, wanted), (off, without), (penalized, history) = models
    assert set(without) == set(wanted) < set(history)
    for name, values in wanted.items():
        np.testing.assert_allclose(without[name], values, rtol=1e-5)
    assert history["margin_penalty"][0] > 0 and history["cross_entropy"][0] > 0
    assert off.evaluate(x, y, verbose=0) == pytest.approx(plain.evaluate(x, y, verbose=0), rel=1e-5)
    for one, other in zip(*(keras.tree.flatten(m.predict(x, verbose=0)) for m in (off, plain)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    alone = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    alone.set_weights(plain.get_weights())
    margin = keras_amm.evaluate_margins(alone, (X, Y), verbose=0).mean
    assert keras_amm.evaluate_margins(plain, (x, y), verbose=0).mean == pytest.approx(margin, rel=1e-5)
    np.testing.assert_allclose(
        keras_amm.DeepFool().perturb(off, x, y).norm, keras_amm.DeepFool().perturb(alone, X, Y).norm, rtol=1e-5
    )
    logger = keras_amm.callbacks.MarginLogger((x, y))
    logs = off.fit(x, y, epochs=1, callbacks=[logger], verbose=0).history
    assert np.isfinite(logs["val_margin"][0])
    assert float(penalized.margin_penalty(x, y)) > 0
