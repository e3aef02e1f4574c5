"""The l-infinity norm: attacks against closed forms and a linear program, and the penalty against its replay."""

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

import keras_amm
from keras_amm.gradient import searching
from keras_amm.search.linearisation import clean_pass
from keras_amm.search.norms import NORMS
from tests.helpers import oracle, zoo
from tests.helpers.networks import LOSS, linear_classifier

ATTACKS = {
    "deepfool": keras_amm.DeepFool(overshoot=1e-3, norm="linf"),
    "fmn": keras_amm.FastMinimumNorm(norm="linf"),
    "superdeepfool": keras_amm.SuperDeepFool(norm="linf"),
}
each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
CLASSES, SIZE = 4, 6


@pytest.fixture(scope="module")
def linear():
    """A linear classifier, its weights, and images."""
    return linear_classifier(SIZE, CLASSES)


def distances(w, b, x, aim, target):
    """|w.x + b| / ||w||_1 of the difference of two classes [n]."""
    normal = w.T[target] - w.T[aim]
    return np.abs(np.sum(normal * x, axis=1) + b[target] - b[aim]) / np.abs(normal).sum(axis=1)


@pytest.mark.usefixtures("eagerly")
@each_attack
def test_closed_form(attack, linear):
    model, w, b, x = linear
    prediction = np.argmax(x @ w + b, axis=1)
    with np.errstate(invalid="ignore"):
        to_each = np.stack([distances(w, b, x, prediction, np.full(len(x), k)) for k in range(CLASSES)], axis=1)
    to_each[np.arange(len(x)), prediction] = np.inf
    found = attack.perturb(model, x)
    assert np.all(found.success)
    np.testing.assert_array_equal(found.target, np.argmin(to_each, axis=1))
    np.testing.assert_allclose(found.norm, to_each.min(axis=1), rtol=3e-3)
    np.testing.assert_allclose(found.norm, np.abs(found.delta).max(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(np.argmax((x + found.delta) @ w + b, axis=1), found.target)


@pytest.mark.usefixtures("eagerly")
@each_attack
def test_within_bounds_against_a_linear_program(attack):
    """The least t with |s| <= t, <normal, s> = rise and x + s in [0, 1]; two classes, pixels close to their bounds."""
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=(SIZE, 2)), rng.choice([0.0, 0.02, 0.5, 0.98, 1.0], size=(12, SIZE))
    b = np.array([0.0, -0.5 * np.sum(w[:, 1] - w[:, 0])])
    model = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(2)])
    model.set_weights([w, b])
    normal = w[:, 1] - w[:, 0]
    eye, one = np.eye(SIZE), np.ones((SIZE, 1))
    wanted = [
        scipy.optimize.linprog(
            [*np.zeros(SIZE), 1.0],
            A_ub=np.block([[eye, -one], [-eye, -one]]),
            b_ub=np.zeros(2 * SIZE),
            A_eq=[[*normal, 0.0]],
            b_eq=[-(each @ normal + b[1])],
            bounds=[*zip(-each, 1 - each, strict=True), (0, None)],
        ).fun
        for each in x
    ]
    assert np.mean(np.array(wanted) > 1.05 * np.abs(x @ normal + b[1]) / np.abs(normal).sum()) > 0.2
    found = type(attack).from_config({**attack.get_config(), "start": keras_amm.DeepFool(), "bounds": (0, 1)}
        if getattr(attack, "start", None) else {**attack.get_config(), "bounds": (0, 1)}).perturb(model, x)  # fmt: skip
    assert np.all(found.success)
    np.testing.assert_allclose(found.norm, wanted, rtol=5e-3)


def test_the_attacks_are_told_apart(linear):
    """A compiled search of one norm does not serve the other."""
    model, *_, x = linear
    l2, linf = (keras_amm.DeepFool(norm=norm).perturb(model, x).norm for norm in ("l2", "linf"))
    assert np.all(linf < l2)


def test_other_attacks_find_nearer_points():
    keras.utils.set_random_seed(3)
    model, x = zoo.build("tanh_mlp"), zoo.images(40)
    first = keras_amm.DeepFool(refine_steps=10, norm="linf").perturb(model, x)
    for attack in (keras_amm.FastMinimumNorm(norm="linf"), keras_amm.SuperDeepFool(norm="linf")):
        assert np.mean(attack.perturb(model, x).norm) < 0.99 * np.mean(first.norm)


def test_a_configuration_without_the_key_means_l2():
    for attack in (keras_amm.DeepFool(), keras_amm.SuperDeepFool(), keras_amm.FastMinimumNorm(start=None)):
        config = attack.get_config()
        assert config.pop("norm") == "l2"
        assert type(attack).from_config(config).norm == "l2"
    config = keras_amm.FastMinimumNorm(norm="linf").get_config()
    assert keras_amm.FastMinimumNorm.from_config(config).start.norm == "linf"
    assert keras_amm.FastMinimumNorm(start=keras_amm.DeepFool(norm="linf")).norm == "linf"


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match=r"`norm` must be one of \['l2', 'linf'\]. Received: norm='l1'"):
        keras_amm.DeepFool(norm="l1")


@pytest.mark.parametrize("norm", NORMS)
def test_the_definition_of_a_dual_map(norm):
    w = tf.constant(np.random.default_rng(0).normal(size=(5, 3, 2)), tf.float32)
    u, squared = NORMS[norm].dual_map(w), NORMS[norm].dual_squared(w)
    np.testing.assert_allclose(tf.reduce_sum(u * w, axis=[1, 2]), squared, rtol=1e-5)
    np.testing.assert_allclose(NORMS[norm].of(u) ** 2, squared, rtol=1e-5)
    # Hoelder's inequality is an equality there, and nowhere is the product larger.
    other = tf.constant(np.random.default_rng(1).normal(size=(5, 3, 2)), tf.float32)
    assert np.all(tf.reduce_sum(other * w, axis=[1, 2]) <= NORMS[norm].of(other) * tf.sqrt(squared))


def of_penalty(model, x, y, **arguments):
    """The penalty of a batch in the l-infinity norm, and its gradient."""
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", **SETTINGS, **arguments)
    wrapped = keras_amm.wrap(model, regularizer, attack=keras_amm.DeepFool(norm="linf"))
    with tf.GradientTape() as tape:
        penalty = wrapped.margin_penalty(x, y)
    return penalty, tape.gradient(penalty, model.trainable_variables, unconnected_gradients="zero")


SETTINGS = {"strength": 4.0, "aggregation": "avg", "shrinkage": "exp", "c": 5.0, "d": 5.0}


def relative(got, wanted):
    got, wanted = (np.concatenate([np.ravel(g) for g in part]) for part in (got, wanted))
    return np.linalg.norm(got - wanted) / np.linalg.norm(wanted)


@pytest.mark.parametrize(
    ("name", "gradient"), [("relu_mlp", "unrolled"), ("tanh_mlp", "unrolled"), ("tanh_mlp", "masked")]
)
def test_the_penalty_equals_its_replay(name, gradient):
    """Replay differentiates each step under tapes; a tie of the largest change is broken by rounding there."""
    keras.utils.set_random_seed(3)
    model, x = zoo.build(name), zoo.images(12, seed=1)
    y = np.argmax(model(x), axis=1)
    y[::5] = (y[::5] + 1) % zoo.CLASSES
    got, gradients = of_penalty(model, x, y, gradient=gradient)
    with tf.GradientTape() as tape:
        wanted = oracle.penalty(oracle.logits_of(model), x, y, **SETTINGS, masked=gradient == "masked", norm="linf")
    replayed = tape.gradient(wanted, model.trainable_variables, unconnected_gradients="zero")
    np.testing.assert_allclose(got, wanted, rtol=1e-4)
    assert relative(gradients, replayed) < 1e-3


@pytest.mark.parametrize("gradient", ["boundary", "unrolled", "masked"])
def test_the_gradient_of_a_linear_classifier(gradient):
    """The distance |w.x + b| / ||w||_1 grows with the predicted class's bias by 1 / ||w||_1."""
    kernel, bias = np.array([[1.0, -1.0], [0.5, 0.0], [0.0, 2.0]]), np.array([0.3, -0.2])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.set_weights([kernel, bias])
    regularizer = keras_amm.MarginRegularizer.from_paper("avg-lin", c=1.0, gradient=gradient)
    wrapped = keras_amm.wrap(model, regularizer, attack=keras_amm.DeepFool(overshoot=0.0, norm="linf"))
    x = np.array([[1.0, 2.0, -1.0]])
    label = np.argmax(model(x), axis=1)
    with tf.GradientTape() as tape:
        penalty = wrapped.margin_penalty(x, label)
    w = kernel[:, 0] - kernel[:, 1]
    np.testing.assert_allclose(-penalty, abs(x[0] @ w + 0.5) / np.abs(w).sum(), rtol=1e-5)
    _, got = tape.gradient(penalty, model.trainable_variables)
    sign = 1.0 if label[0] == 0 else -1.0
    np.testing.assert_allclose(got, -sign * np.array([1.0, -1.0]) / np.abs(w).sum(), rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_training_shows_a_cosine_of_one_for_a_linear_classifier(linear):
    model, w, b, x = linear
    wrapped = keras_amm.wrap(keras.models.clone_model(model), attack=keras_amm.DeepFool(norm="linf"))
    wrapped.compile(keras.optimizers.SGD(0.0), LOSS)
    wrapped.base_model.set_weights([w, b])
    logs = wrapped.train_on_batch(x, np.argmax(x @ w + b, axis=1), return_dict=True)
    assert logs["boundary_cosine"] == pytest.approx(1.0, abs=1e-4)
    found = keras_amm.evaluate_margins(wrapped, (x, np.argmax(x @ w + b, axis=1)), verbose=0)
    # An AMMModel is measured in the norm that it is trained with.
    assert found.margin == pytest.approx(np.mean(keras_amm.DeepFool(norm="linf").perturb(model, x).norm), rel=1e-5)
    assert found.units.startswith("linf, ") and found.norm_name == "linf"


@pytest.mark.parametrize("name", ["relu_mlp", "tanh_cnn"])
@pytest.mark.parametrize("search", ["ranks", "cheap"])
def test_the_best_first_searches_select_as_the_exact_one(name, search):
    keras.utils.set_random_seed(3)
    model, x = zoo.build(name), zoo.images(60, seed=1)
    y = np.argmax(model(x), axis=1).astype("int32")
    selected = {}
    for each in ("exact", search):
        regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", search=each, gradient="boundary")
        attack = keras_amm.DeepFool(norm="linf")
        classifier = attack.classifier(model)
        path = searching.search(classifier, attack, regularizer, clean_pass(classifier, tf.constant(x)), y)
        norm = np.where(path.searched, path.norm, np.inf) if each == search else path.norm
        mask = regularizer.select(norm, y, path.correct, path.success)
        selected[each] = {int(i): float(norm[i]) for i in np.flatnonzero(mask)}
        searched = np.mean(path.searched)
    assert searched < 1.0
    assert selected[search] == pytest.approx(selected["exact"], rel=1e-4)
