"""AMMModel: which classifiers it wraps, and that all but training is theirs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import (
    Subclassed,
    assert_same_weights,
    assert_trained,
    small_data,
    small_network,
    train,
    wrap_lightly,
)


@pytest.mark.parametrize(
    "between",
    [
        (keras.layers.Dropout, 0.5),
        (keras.layers.BatchNormalization,),
        (keras.layers.GroupNormalization, 2),
        (keras.layers.MaxPooling2D, 2),
        (keras.layers.AveragePooling2D, 2),
    ],
    ids=lambda layer: layer[0].__name__,
)
def test_layers(between):
    layer, *arguments = between
    x, y = small_data(16)
    assert_trained(train(keras_amm.wrap(small_network(layer(*arguments))), x, y, fit={"epochs": 1}, run_eagerly=True))


def test_kinds_of_models():
    x, y = small_data(16)
    inputs = keras.Input((6, 6, 1))
    preprocessing = keras.Sequential([keras.layers.Rescaling(0.5), keras.layers.RandomFlip("horizontal")])
    functional = keras.Model(inputs, small_network()(preprocessing(inputs)))
    subclassed = Subclassed()
    subclassed(x[:1])
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    for model in (functional, subclassed, unbuilt):
        assert_trained(train(wrap_lightly(model), x, y, fit={"epochs": 1}, run_eagerly=True))


def test_softmax_head():
    """Trains like the same network without: the loss of Keras and the penalty both find the logits."""
    x, y = small_data(32)
    with_softmax, without = wrap_lightly(small_network(head="softmax")), wrap_lightly(small_network())
    history = train(with_softmax, x, np.eye(3)[y], keras.losses.CategoricalCrossentropy(), run_eagerly=True)
    assert_trained(history)
    wanted = train(without, x, y, run_eagerly=True)
    for name, values in wanted.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-3, err_msg=name)
    assert_same_weights(with_softmax, without, rtol=1e-3)


def test_label_forms_give_the_same_penalty():
    x, y = small_data()
    model = keras_amm.wrap(small_network())
    wanted = float(model.margin_penalty(x, y))
    for form in (y[:, None], y.astype("float64"), np.eye(3)[y], 0.9 * np.eye(3)[y] + 0.1 / 3):
        assert float(model.margin_penalty(x, form)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.usefixtures("eagerly")
def test_everything_else_is_the_classifiers():
    x, y = small_data()
    network = small_network(keras.layers.Dropout(0.5), head="softmax")
    model = keras_amm.wrap(network)
    loss = keras.losses.SparseCategoricalCrossentropy()
    network.compile("sgd", loss, metrics=["accuracy"])
    model.compile("sgd", loss, metrics=["accuracy"])
    assert model.base_model is network
    np.testing.assert_array_equal(model.predict(x, verbose=0), network.predict(x, verbose=0))
    np.testing.assert_array_equal(model(x), network(x))
    assert model.evaluate(x, y, verbose=0) == pytest.approx(network.evaluate(x, y, verbose=0))
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"loss", "accuracy"}


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(("policy", "around"), [("float32", "mixed_float16"), ("mixed_float16", "float32")])
def test_whatever_keras_policy_is_the_classifier_computes_as_alone(policy, around):
    scale = keras.layers.Normalization(mean=1e5, variance=1e8, dtype="float32")
    policy = keras.dtype_policies.get(policy)
    classifier = keras.Sequential([keras.Input((2,)), scale, keras.layers.Dense(3, dtype=policy)])
    classifier.dtype_policy = policy
    x = np.random.default_rng(0).uniform(9e4, 1.1e5, size=(8, 2)).astype("float32")
    keras.config.set_dtype_policy(around)
    try:
        model = keras_amm.wrap(classifier)
        classifier.compile("sgd", "mse")
        model.compile("sgd", "mse")
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(model.predict(x, verbose=0), classifier.predict(x, verbose=0))
    assert type(model.optimizer) is type(classifier.optimizer)


class Named(keras_amm.MarginRegularizer):
    def __init__(self, extra=1, **kwargs):
        super().__init__(**kwargs)
        self.extra = extra


def test_a_regularizer_of_another_model_is_copied_whole():
    given = Named(extra=7, max_influence=2.0, aggregation=lambda *args, **kwargs: args[-1], strength=1.0, name="mine")
    first, second = (keras_amm.AMMModel(small_network(), given).regularizer for _ in range(2))
    assert first is given and second is not given and type(second) is Named
    assert (second.extra, second.name, second.max_influence) == (7, "mine", 2.0)
    assert second.aggregation is given.aggregation and second.running is not first.running


def test_wrapping_twice_measures_the_same_classifier():
    x, y = small_data()
    network = small_network()
    a, b = keras_amm.wrap(network), keras_amm.wrap(network)
    assert float(a.margin_penalty(x, y)) == float(b.margin_penalty(x, y))


def test_bad_arguments():
    with pytest.raises(TypeError, match="Received: regularizer='exp'"):
        keras_amm.wrap(small_network(), regularizer="exp")
    with pytest.raises(TypeError, match="Received: attack of type int"):
        keras_amm.wrap(small_network(), attack=3)


@pytest.mark.usefixtures("eagerly")
def test_a_backbone_named_base_model_is_not_the_classifier():
    class Transfer(keras.Model):
        def __init__(self, backbone):
            super().__init__()
            self.base_model, self.head = backbone, keras.layers.Dense(3)

        def call(self, inputs, training=None):
            return self.head(self.base_model(inputs))

    x, y = small_data()
    backbone = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(7, "relu")])
    model = Transfer(backbone)
    predictions = np.argmax(model(x), axis=1)
    np.testing.assert_array_equal(keras_amm.evaluate_margins(model, (x, y), verbose=0).predictions, predictions)
    same = keras.Sequential([keras.Input(x.shape[1:]), backbone, model.head])
    expected, got = keras_amm.wrap(same).margin_penalty(x, y), keras_amm.wrap(model).margin_penalty(x, y)
    assert float(got) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_logits_of_one_image_that_sum_to_one_are_no_probabilities():
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    network.set_weights([np.zeros((2, 2)), np.array([0.4, 0.6])])
    assert not keras_amm.DeepFool().perturb(network, np.ones((1, 2))).success


def test_a_changed_architecture_is_attacked_anew():
    x, _ = small_data()
    layers = [keras.Input(x.shape[1:]), keras.layers.Flatten(), keras.layers.Dense(7, "relu"), keras.layers.Dense(3)]
    network, attack = keras.Sequential(layers), keras_amm.DeepFool()
    attack.perturb(network, x)
    network.pop()
    network.add(keras.layers.Dense(5))
    found, expected = (each.perturb(network, x).norm for each in (attack, keras_amm.DeepFool()))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_export(tmp_path):
    x, _ = small_data()
    model = keras_amm.wrap(small_network())
    model.export(tmp_path, verbose=False)
    exported = tf.saved_model.load(tmp_path)
    np.testing.assert_allclose(exported.serve(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_a_list_of_one_image_is_a_batch():
    x, _ = small_data(1)
    network = small_network()
    network(x)
    found, expected = (keras_amm.DeepFool().perturb(network, images).norm for images in ([x[0]], x))
    np.testing.assert_array_equal(found, expected)
