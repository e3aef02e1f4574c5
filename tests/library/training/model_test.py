"""AMMModel: training like Keras's own models, plus the penalty."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import (
    LOSS,
    Subclassed,
    assert_same_weights,
    assert_trained,
    small_data,
    small_network,
    train,
    wrap_lightly,
)


def test_one_step_is_the_gradient_of_loss_and_penalty():
    """The update against one written out with margin_penalty, which the fixtures check."""
    x, y = small_data(16)
    model = keras_amm.wrap(small_network(keras.layers.MaxPooling2D(2)))
    twin = keras_amm.wrap(small_network(keras.layers.MaxPooling2D(2)))
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    model.train_on_batch(x, y)
    with tf.GradientTape() as tape:
        total = LOSS(y, twin(x, training=True)) + twin.margin_penalty(x, y)
    for weight, gradient in zip(twin.trainable_variables, tape.gradient(total, twin.trainable_variables), strict=True):
        weight.assign_sub(0.1 * gradient)
    assert_same_weights(model, twin)


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
    x, y = small_data()
    assert_trained(train(keras_amm.wrap(small_network(layer(*arguments))), x, y))


def test_kinds_of_models():
    x, y = small_data()
    inputs = keras.Input((6, 6, 1))
    preprocessing = keras.Sequential([keras.layers.Rescaling(0.5), keras.layers.RandomFlip("horizontal")])
    functional = keras.Model(inputs, small_network()(preprocessing(inputs)))
    subclassed = Subclassed()
    subclassed(x[:1])
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    for model in (functional, subclassed, unbuilt):
        assert_trained(train(wrap_lightly(model), x, y))


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (keras.losses.SparseCategoricalCrossentropy, lambda y: y[:, None]),
        (keras.losses.SparseCategoricalCrossentropy, lambda y: y.astype("float32")),
        (keras.losses.CategoricalCrossentropy, lambda y: np.eye(3, dtype="float32")[y]),
        (lambda **k: keras.losses.CategoricalCrossentropy(label_smoothing=0.1, **k), lambda y: np.eye(3)[y]),
        (keras.losses.CategoricalCrossentropy, lambda y: 0.9 * np.eye(3)[y] + 0.1 / 3),
    ],
)
def test_labels(loss, labels):
    x, y = small_data()
    assert_trained(train(wrap_lightly(small_network()), x, labels(y), loss(from_logits=True)))


def test_softmax_head():
    """Trains like the same network without: the loss of Keras and the penalty both find the logits."""
    x, y = small_data()
    with_softmax, without = wrap_lightly(small_network(head="softmax")), wrap_lightly(small_network())
    history = train(with_softmax, x, np.eye(3)[y], keras.losses.CategoricalCrossentropy())
    assert_trained(history)
    wanted = train(without, x, y)
    for name, values in wanted.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-3, err_msg=name)
    assert_same_weights(with_softmax, without, rtol=1e-3)


def test_label_forms_give_the_same_penalty():
    x, y = small_data()
    model = keras_amm.wrap(small_network())
    wanted = float(model.margin_penalty(x, y))
    for form in (y[:, None], y.astype("float64"), np.eye(3)[y], 0.9 * np.eye(3)[y] + 0.1 / 3):
        assert float(model.margin_penalty(x, form)) == pytest.approx(wanted, rel=1e-6)


def _train_in_mode(**arguments):
    x, y = small_data()
    model = keras_amm.wrap(small_network(keras.layers.MaxPooling2D(2)))
    return model, train(model, x[:40], y[:40], **arguments)


# One training to compare with, for all modes.
_trained_in_graph = functools.cache(functools.partial(_train_in_mode, jit_compile=False))


@pytest.mark.parametrize(
    "arguments", [{"run_eagerly": True}, {"steps_per_execution": 3}, {"jit_compile": True}], ids=str
)
def test_modes_of_execution_agree(arguments):
    wanted, history = _trained_in_graph()
    assert_trained(history)
    got, other = _train_in_mode(**arguments)
    assert_same_weights(got, wanted, rtol=1e-2, atol=1e-3)
    for name, values in history.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("gradient", ["masked", "boundary"])
def test_other_gradients_and_screening(gradient):
    x, y = small_data()
    regularizer = keras_amm.MarginRegularizer(gradient=gradient, screening=0.3)
    assert_trained(train(keras_amm.wrap(small_network(), regularizer=regularizer), x, y))


@pytest.mark.parametrize("num_correct", [5, 15, 36])
def test_screening_searches_a_fraction_of_the_batch(num_correct):
    """The nearest correct samples by the estimate, all of them where they are few, and the wrong ones."""
    network = small_network()
    x, _ = small_data(40)
    right = np.argmax(network.predict(x, verbose=0), axis=1)
    y = np.where(np.arange(40) < num_correct, right, (right + 1) % 3).astype("int32")
    classifier = keras_amm.network.classifier.Classifier(network)
    clean = keras_amm.search.linearisation.clean_pass(classifier, tf.constant(x))
    full, screened, one_step = (
        attack.path(classifier, clean, tf.constant(y), screening=screening)
        for attack, screening in (
            (keras_amm.DeepFool(), None),
            (keras_amm.DeepFool(), 0.3),
            (keras_amm.DeepFool(max_iterations=1, num_candidates=2), None),
        )
    )
    searched = screened.searched.numpy()
    assert searched[num_correct:].all() and searched[:num_correct].sum() == min(12, num_correct)
    # One step towards the runner-up is the estimate.
    estimate = one_step.norm.numpy()[:num_correct]
    np.testing.assert_array_equal(searched[:num_correct], estimate <= np.sort(estimate)[:12][-1])
    np.testing.assert_allclose(screened.norm[searched], full.norm[searched], rtol=1e-5)


def test_full_screening_is_no_screening():
    x, y = small_data()
    wanted, got = (
        keras_amm.wrap(small_network(), regularizer=keras_amm.MarginRegularizer(screening=screening))
        for screening in (None, 1.0)
    )
    train(wanted, x, y)
    train(got, x, y)
    assert_same_weights(got, wanted)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_zero_strength_is_plain_training(jit_compile):
    x, y = small_data()
    plain, wrapped = (small_network(keras.layers.Dropout(0.3, seed=5)) for _ in range(2))
    wanted = train(plain, x, y, jit_compile=jit_compile)
    history = train(
        keras_amm.wrap(wrapped, regularizer=keras_amm.MarginRegularizer(0.0)), x, y, jit_compile=jit_compile
    )
    assert set(history) == set(wanted)
    assert_same_weights(wrapped, plain, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_delayed_start(run_eagerly):
    """While a schedule is zero the update is the plain one, and no margin is shown."""
    x, y = small_data(32)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.0, 32.0])
    plain, delayed, always = small_network(), small_network(), small_network()
    train(plain, x, y, fit={"epochs": 1})
    model = keras_amm.wrap(delayed, regularizer=keras_amm.MarginRegularizer(schedule))
    history = train(model, x, y, fit={"epochs": 1}, run_eagerly=run_eagerly)
    assert_same_weights(delayed, plain)
    assert history["margin_penalty"] == [0.0]
    assert np.isnan(history["margin"][0])
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["margin"][1])
    assert history["margin_penalty"][1] > 0
    train(keras_amm.wrap(always), x, y, fit={"epochs": 1}, run_eagerly=True)
    assert not np.allclose(always.get_weights()[0], plain.get_weights()[0])


def test_steps_of_an_interval_are_plain_ones():
    x, y = small_data(32)
    plain, wrapped = (small_network(keras.layers.MaxPooling2D(2)) for _ in range(2))
    model = keras_amm.wrap(wrapped, regularizer=keras_amm.MarginRegularizer(interval=2))
    for part in (plain, model):
        part.compile(keras.optimizers.SGD(0.1), LOSS)
    with tf.GradientTape() as tape:
        total = LOSS(y[:16], plain(x[:16])) + 2.0 * keras_amm.wrap(plain).margin_penalty(x[:16], y[:16])
    gradients = tape.gradient(total, plain.trainable_variables)
    for weight, gradient in zip(plain.trainable_variables, gradients, strict=True):
        weight.assign_sub(0.1 * gradient)
    first = model.train_on_batch(x[:16], y[:16], return_dict=True)
    assert_same_weights(wrapped, plain)
    plain.train_on_batch(x[16:], y[16:])
    second = model.train_on_batch(x[16:], y[16:], return_dict=True)
    assert_same_weights(wrapped, plain)
    assert first["margin"] > 0 and first["margin_penalty"] > 0
    assert np.isnan(second["margin"]) and second["margin_penalty"] == 0


@functools.cache
def _weights_in_full_precision():
    full = small_network()
    train(keras_amm.wrap(full), *small_data(), optimizer=keras.optimizers.SGD(0.05))
    return full.get_weights()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_with_loss_scaling(policy):
    x, y = small_data()
    keras.config.set_dtype_policy(policy)
    try:
        half = small_network()
        model = keras_amm.wrap(half)
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=256.0)
    assert_trained(train(model, x, y, optimizer=optimizer if policy == "mixed_float16" else keras.optimizers.SGD(0.05)))
    for a, b in zip(half.get_weights(), _weights_in_full_precision(), strict=True):
        np.testing.assert_allclose(a, b, atol=0.05)


def test_sample_weights_weigh_the_loss_alone():
    x, y = small_data(16)
    weighed, twin = keras_amm.wrap(small_network()), keras_amm.wrap(small_network())
    weights = np.linspace(0.0, 2.0, 16).astype("float32")
    weighed.compile(keras.optimizers.SGD(0.1), LOSS)
    weighed.train_on_batch(x, y, sample_weight=weights)
    with tf.GradientTape() as tape:
        total = LOSS(y, twin(x), sample_weight=weights) + twin.margin_penalty(x, y)
    for weight, gradient in zip(twin.trainable_variables, tape.gradient(total, twin.trainable_variables), strict=True):
        weight.assign_sub(0.1 * gradient)
    assert_same_weights(weighed, twin)


def test_class_weights():
    x, y = small_data()
    assert_trained(
        train(wrap_lightly(small_network()), x, y, fit={"epochs": 1, "class_weight": {0: 1.0, 1: 5.0, 2: 0.5}})
    )


def test_extra_losses_are_minimised_and_told_apart():
    x, y = small_data(16)
    sketch = small_network(keras.layers.ActivityRegularization(l2=0.1))
    sketch.layers[0].kernel_regularizer = keras.regularizers.L2(0.3)
    network, plain = (keras.models.clone_model(sketch) for _ in range(2))
    plain.set_weights(network.get_weights())
    plain.compile(keras.optimizers.SGD(0.0), LOSS)
    total = plain.train_on_batch(x, y, return_dict=True)["loss"]
    cross_entropy = float(LOSS(y, plain(x)))
    model = keras_amm.wrap(network)
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert logs["cross_entropy"] == pytest.approx(cross_entropy, rel=1e-4)
    assert logs["loss"] == pytest.approx(total + logs["margin_penalty"], rel=1e-4)
    assert total > cross_entropy + 0.1


@pytest.mark.parametrize(
    "arguments",
    [{"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.01}, {"gradient_accumulation_steps": 2}],
    ids=str,
)
def test_clipping_and_accumulation(arguments):
    x, y = small_data()
    assert_trained(train(wrap_lightly(small_network()), x, y, optimizer=keras.optimizers.SGD(0.05, **arguments)))


def test_frozen_layers_stay():
    x, y = small_data()
    network = small_network(keras.layers.BatchNormalization())
    network.layers[0].trainable = False
    before = [w.copy() for w in network.layers[0].get_weights()]
    assert_trained(train(keras_amm.wrap(network), x, y))
    for a, b in zip(before, network.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_batches_all_right_and_all_wrong():
    x, _ = small_data(16)
    network = small_network()
    predicted = np.argmax(network(x), axis=1)
    model = keras_amm.wrap(network)
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    for labels in (predicted, (predicted + 1) % 3):
        model.reset_metrics()
        logs = model.train_on_batch(x, labels, return_dict=True)
        assert np.isfinite(logs["loss"])
        assert logs["margin_penalty"] > 0
        assert np.isnan(logs["margin"]) == (labels is not predicted)


def test_logs_are_means_over_the_epoch():
    x, y = small_data(40)
    model = keras_amm.wrap(small_network())
    model.compile(keras.optimizers.SGD(0.0), LOSS, metrics=["accuracy"])
    logs = model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history
    parts = [slice(0, 16), slice(16, 32), slice(32, 40)]
    penalties = [float(model.margin_penalty(x[p], y[p])) * len(y[p]) for p in parts]
    assert logs["margin_penalty"][0] == pytest.approx(sum(penalties) / 40, rel=1e-4)
    found = keras_amm.DeepFool().perturb(model, x, y)
    correct = np.argmax(model(x), axis=1) == y
    assert logs["margin"][0] == pytest.approx(np.mean(found.norm[correct]), rel=1e-4)
    assert logs["attack_success"][0] == pytest.approx(np.mean(found.success))
    assert logs["loss"][0] == pytest.approx(logs["cross_entropy"][0] + logs["margin_penalty"][0], rel=1e-5)


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


def test_validation_shows_no_margin_of_training():
    x, y = small_data()
    history = train(
        wrap_lightly(small_network()), x, y, metrics=["accuracy"], fit={"validation_data": (x, y), "epochs": 1}
    )
    assert {name for name in history if name.startswith("val_")} == {"val_loss", "val_accuracy"}


def test_evaluate_after_fit_leaves_no_trace_in_the_next_epoch():
    x, y = small_data()
    model = wrap_lightly(small_network())
    train(model, x, y, optimizer=keras.optimizers.SGD(0.0))
    first = model.fit(x, y, verbose=0).history
    model.evaluate(x, y, verbose=0)
    second = model.fit(x, y, verbose=0).history
    assert first["margin"] == pytest.approx(second["margin"], rel=1e-3)


@pytest.mark.parametrize("metrics", [None, ["accuracy"]])
def test_the_step_is_traced_once(metrics, monkeypatch):
    traces, train_step = [], keras_amm.AMMModel.train_step

    def counted(self, data):
        traces.append(data)
        return train_step(self, data)

    monkeypatch.setattr(keras_amm.AMMModel, "train_step", counted)
    x, y = small_data()
    train(wrap_lightly(small_network()), x[:32], y[:32], metrics=metrics)
    assert len(traces) == 1


def test_evaluate_gives_the_classifiers_numbers():
    x, y = small_data()
    network = small_network()
    train(wrap_lightly(network), x, y)
    network.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    wrapped = keras_amm.wrap(network)
    wrapped.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    got, wanted = wrapped.evaluate(x, y, verbose=0), network.evaluate(x, y, verbose=0)
    assert all(isinstance(value, float) for value in got)
    assert got == pytest.approx(wanted, rel=1e-5)


def test_wrapping_twice_measures_the_same_classifier():
    x, y = small_data()
    network = small_network()
    a, b = keras_amm.wrap(network), keras_amm.wrap(network)
    assert float(a.margin_penalty(x, y)) == float(b.margin_penalty(x, y))


def test_bad_arguments():
    with pytest.raises(TypeError, match="Received: regularizer='exp'"):
        keras_amm.wrap(small_network(), regularizer="exp")
    with pytest.raises(TypeError, match="Received: attack="):
        keras_amm.wrap(small_network(), attack=3)


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


def test_logits_of_one_image_that_sum_to_one_are_no_probabilities():
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    network.set_weights([np.zeros((2, 2)), np.array([0.4, 0.6])])
    assert not keras_amm.DeepFool().perturb(network, np.ones((1, 2))).success


def test_a_changed_architecture_is_attacked_anew():
    x, _ = small_data()
    network, attack = small_network(), keras_amm.DeepFool()
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


def test_a_list_of_one_image_is_a_batch():
    x, _ = small_data(1)
    network = small_network()
    network(x)
    found, expected = (keras_amm.DeepFool().perturb(network, images).norm for images in ([x[0]], x))
    np.testing.assert_array_equal(found, expected)
