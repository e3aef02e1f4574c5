"""Every attack: what it finds for linear classifiers, the contract that all share, and pixel bounds."""

import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_amm
from tests.helpers import zoo
from tests.helpers.networks import linear_classifier

ATTACKS = {
    "deepfool": keras_amm.DeepFool(overshoot=1e-4),
    "fmn": keras_amm.FastMinimumNorm(),
    "fmn from zero": keras_amm.FastMinimumNorm(start=None),
    "superdeepfool": keras_amm.SuperDeepFool(),
}
each_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
OTHERS = {name: attack for name, attack in ATTACKS.items() if name != "deepfool"}
each_other = pytest.mark.parametrize("attack", OTHERS.values(), ids=OTHERS)
CLASSES, SIZE = 4, 6


@pytest.fixture(scope="module")
def linear():
    """A linear classifier, its weights, and images of which about half are misclassified with `labels`."""
    model, w, b, x = linear_classifier(SIZE, CLASSES)
    prediction = np.argmax(x @ w + b, axis=1)
    labels = np.where(np.arange(12) % 2, prediction, (prediction + 1) % CLASSES)
    return model, w, b, x, prediction, labels


def half_spaces(w, b, x, aim, others):
    """The least norm that lifts class `aim` [n] to the others' level, where one other class matters; [n]."""
    differences = w.T[others] - w.T[aim][:, None]
    lead = np.einsum("nd,nkd->nk", x, differences) + b[others] - b[aim][:, None]
    return np.abs(lead) / np.linalg.norm(differences, axis=2)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", ["deepfool", "fmn", "superdeepfool"])
def test_untargeted_closed_form(name, linear):
    """FMN from zero goes to the class of the largest logit, which need not be the nearest."""
    attack = ATTACKS[name]
    model, w, b, x, prediction, _ = linear
    others = np.array([[k for k in range(CLASSES) if k != p] for p in prediction])
    found = attack.perturb(model, x)
    np.testing.assert_allclose(found.norm, half_spaces(w, b, x, prediction, others).min(axis=1), rtol=2e-3)
    assert np.all(found.success)
    np.testing.assert_array_equal(np.argmax((x + found.delta) @ w + b, axis=1), found.target)


@pytest.mark.usefixtures("eagerly")
@each_attack
def test_towards_the_label_of_two_classes(attack):
    """Of two classes, the way to the label is the way out of the prediction."""
    rng = np.random.default_rng(1)
    w, b, x = rng.normal(size=(SIZE, 2)), rng.normal(size=2), rng.normal(size=(9, SIZE))
    model = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(2)])
    model.set_weights([w, b])
    labels = rng.integers(2, size=9)
    prediction = np.argmax(x @ w + b, axis=1)
    assert 0 < np.mean(prediction == labels) < 1
    found = attack.perturb(model, x, labels)
    wanted = half_spaces(w, b, x, prediction, 1 - prediction[:, None])[:, 0]
    np.testing.assert_allclose(found.norm, wanted, rtol=2e-3)
    np.testing.assert_array_equal(found.target, 1 - prediction)


@pytest.mark.usefixtures("eagerly")
@each_attack
def test_misclassified_images_reach_their_label(attack, linear):
    model, w, b, x, prediction, labels = linear
    found, untargeted = attack.perturb(model, x, labels), attack.perturb(model, x)
    wrong = prediction != labels
    assert np.all(found.success)
    np.testing.assert_array_equal(np.argmax((x + found.delta) @ w + b, axis=1)[wrong], labels[wrong])
    np.testing.assert_array_equal(found.target[wrong], labels[wrong])
    np.testing.assert_allclose(found.norm[~wrong], untargeted.norm[~wrong], rtol=1e-5)
    assert np.all(found.norm[wrong] >= untargeted.norm[wrong] * (1 - 2e-3))


def within_bounds(normal, rise, x, low, high):
    """The least norm of s with <normal, s> = rise and low <= x + s <= high, by bisecting the multiplier."""
    least, most = 0.0, 1e6
    for _ in range(200):
        middle = 0.5 * (least + most)
        step = np.clip(middle * normal, low - x, high - x)
        least, most = (middle, most) if step @ normal < rise else (least, middle)
    return np.linalg.norm(step)


@pytest.mark.usefixtures("eagerly")
@each_attack
def test_closed_form_within_bounds(attack):
    """Of two classes, and where pixels are close to their bounds, so that the bounds matter."""
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=(SIZE, 2)), rng.choice([0.0, 0.02, 0.5, 0.98, 1.0], size=(20, SIZE))
    # The boundary goes through the middle, which can be reached from everywhere.
    b = np.array([0.0, -0.5 * np.sum(w[:, 1] - w[:, 0])])
    model = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(2)])
    model.set_weights([w, b])
    normal = w[:, 1] - w[:, 0]
    lead = x @ normal + b[1]
    wanted = [within_bounds(-np.sign(g) * normal, abs(g), each, 0.0, 1.0) for g, each in zip(lead, x, strict=True)]
    assert np.mean(np.array(wanted) > 1.05 * np.abs(lead) / np.linalg.norm(normal)) > 0.5
    bounded = type(attack).from_config(
        {**attack.get_config(), "start": keras_amm.DeepFool(), "bounds": (0, 1)}
        if getattr(attack, "start", None)
        else {**attack.get_config(), "bounds": (0, 1)}
    )
    found = bounded.perturb(model, x)
    assert np.all(found.success)
    np.testing.assert_allclose(found.norm, wanted, rtol=5e-3)
    perturbed = np.asarray(x + found.delta)
    assert perturbed.min() > -1e-6 and perturbed.max() < 1 + 1e-6


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("network", ["tanh"], indirect=True)
def test_bounds_of_a_network(network):
    """Each channel, here a feature, may have bounds of its own."""
    network.set_weights([np.random.default_rng(3).normal(size=w.shape) for w in network.get_weights()])
    low, high = np.array([-1.0, -1.0, 0.0]), np.array([1.0, 1.0, 0.5])
    x = np.random.default_rng(0).uniform(low, high, size=(20, 3))
    for attack in (keras_amm.DeepFool(), keras_amm.FastMinimumNorm()):
        bounded = type(attack)(bounds=(low, high)).perturb(network, x)
        perturbed, free = np.asarray(x + bounded.delta), attack.perturb(network, x)
        assert np.all(perturbed > low - 1e-5) and np.all(perturbed < high + 1e-5)
        leaves = np.any((x + free.delta < low) | (x + free.delta > high), axis=1)
        assert 0 < np.mean(leaves) < 1 and np.mean(bounded.success) > 0.5


def test_images_outside_of_the_bounds_are_refused(linear):
    model, *_ = linear
    expected = r"Images must lie within the attack's `bounds`.* from 0 to 1\..* between -1 1."
    with pytest.raises(ValueError, match=expected):
        keras_amm.DeepFool(bounds=(0, 1)).perturb(model, np.linspace(-1, 1, SIZE)[None])


@pytest.mark.usefixtures("eagerly")
def test_what_is_said_of_bounds_is_in_the_units_of_the_images(linear):
    """And not in pixel units; of several channels, all their bounds."""
    attack = keras_amm.DeepFool(bounds=([0] * SIZE, [1] * SIZE), deviation=0.25)
    low, high = (rf"\({', '.join([value] * SIZE)}\)" for value in "01")
    with pytest.raises(ValueError, match=rf"from {low} to {high}\..* between -0.5 0.5"):
        attack.perturb(linear[0], np.linspace(-0.5, 0.5, SIZE, dtype="float32")[None])


@pytest.mark.usefixtures("eagerly")
def test_bounds_of_another_number_of_channels_are_refused(linear):
    attack, x = keras_amm.DeepFool(bounds=([0, 0], 1)), np.full((4, SIZE), 0.5)
    with pytest.raises(ValueError, match=r"one per channel.* Received: 2 numbers, and images of shape"):
        attack.perturb(linear[0], x)
    with pytest.raises(ValueError, match=r"one per channel.* Received: 2 numbers, and images of shape"):
        keras_amm.evaluate_margins(linear[0], (x, np.zeros(4)), attack, verbose=0)


@pytest.mark.usefixtures("eagerly")
def test_unfit_images_are_refused(linear):
    with pytest.raises(ValueError, match=rf"no images to perturb.* Received: x of shape \(0, {SIZE}\)"):
        keras_amm.DeepFool().perturb(linear[0], np.zeros((0, SIZE)))
    for text in (np.zeros((2, SIZE)).astype(str), tf.constant([["1"] * SIZE])):
        with pytest.raises(TypeError, match=r"Images must be numbers.*astype.* Received: dtype string"):
            keras_amm.DeepFool().perturb(linear[0], text)


@pytest.mark.parametrize(
    "bounds",
    [1, (1,), (1, 0), (0, [1, -1]), ("a", "b"), "01", ("0", "1"), (0, ["1"]), (0, np.inf), ([0, 0], [1, 1, 1])],
)
def test_bad_bounds(bounds):
    with pytest.raises(ValueError, match="`bounds` must be None, or the smallest and the largest value"):
        keras_amm.SuperDeepFool(bounds=bounds)


@pytest.fixture(scope="module", params=["relu", "tanh"])
def network(request):
    """A small network whose weights a test may change: what is compiled for it stays valid."""
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(7, request.param), keras.layers.Dense(3)])


@pytest.mark.parametrize(("network", "labelled"), [("relu", False), ("tanh", True)], indirect=["network"])
@given(seed=st.integers(0, 2**31 - 1))
@settings(max_examples=10, deadline=None)
def test_what_is_found_is_predicted_otherwise(network, labelled, seed):
    """And no farther than where the search began, on networks of random weights."""
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(size=w.shape) for w in network.get_weights()])
    x, labels = rng.normal(size=(5, 3)), rng.integers(3, size=5) if labelled else None
    prediction = np.argmax(network(x), axis=1)
    goal = prediction if labels is None else labels
    right = prediction == goal
    first = ATTACKS["fmn"].start.perturb(network, x, labels)
    for name, attack in OTHERS.items():
        found = attack.perturb(network, x, labels)
        logits = np.asarray(network(x + found.delta))
        is_goal = np.arange(3) == goal[:, None]
        of_goal, of_others = logits[is_goal], np.where(is_goal, -np.inf, logits).max(axis=1)
        lead = np.where(right, of_others - of_goal, of_goal - of_others)
        success = np.asarray(found.success)
        assert np.all(lead[success] >= -1e-5), name
        np.testing.assert_allclose(found.norm, np.linalg.norm(found.delta, axis=1), rtol=1e-5, atol=1e-7)
        if name != "fmn from zero":
            assert np.all(success | ~np.asarray(first.success)), name
            assert np.all((found.norm <= first.norm * (1 + 1e-5)) | ~np.asarray(first.success)), name


# The third attack, from zero, differs from the first in its start only.
@pytest.mark.parametrize("name", ["fmn", "superdeepfool"])
def test_eager_graph_and_xla_agree(name):
    attack = ATTACKS[name]
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(7, "tanh"), keras.layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(6, 3))
    labels = np.argmax(model(x), axis=1)
    labels[:3] = (labels[:3] + 1) % 3
    wanted = attack.perturb(model, x, labels)
    assert np.any(wanted.success[:3]) and np.all(wanted.success[3:])
    tf.config.run_functions_eagerly(True)
    try:
        eager = attack.perturb(model, x, labels)
    finally:
        tf.config.run_functions_eagerly(False)
    xla = tf.function(lambda x: attack.perturb(model, x, labels), jit_compile=True)(tf.constant(x))
    for got in (eager, xla):
        for name, one, other in zip(wanted._fields, got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3, err_msg=name)


def test_a_start_is_made_better():
    keras.utils.set_random_seed(3)
    model, x = zoo.build("tanh_mlp"), zoo.images(40)
    first = keras_amm.DeepFool(refine_steps=10).perturb(model, x)
    for attack in (keras_amm.FastMinimumNorm(), keras_amm.SuperDeepFool()):
        assert np.mean(attack.perturb(model, x).norm) < 0.98 * np.mean(first.norm)


@pytest.mark.usefixtures("eagerly")
@each_other
def test_an_image_at_a_boundary_has_margin_zero(attack):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.set_weights([np.array([[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]), np.array([0.0, 0.0, -1.0])])
    found = attack.perturb(model, np.array([[0.0, 5.0], [1.0, 5.0]]))
    np.testing.assert_allclose(found.norm, [0.0, 1.0], rtol=2e-3)
    np.testing.assert_array_equal(found.success, [True, True])
    assert found.iterations[0] == 0 < found.iterations[1]


@each_other
def test_without_a_gradient_nothing_moves(attack):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, trainable=False), keras.layers.Dense(3)])
    model.layers[0].set_weights([np.zeros((2, 2)), np.ones(2)])
    found = attack.perturb(model, np.ones((2, 2)))
    np.testing.assert_array_equal(found.norm, [0.0, 0.0])
    assert not np.any(found.success)


@each_attack
def test_config_round_trip(attack):
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(attack))))
    assert again.get_config() == attack.get_config() and repr(again) == repr(attack)
    assert pickle.loads(pickle.dumps(attack)).get_config() == attack.get_config()
    bounded = type(attack)(bounds=(0, (1, 2)))
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(bounded))))
    assert again.bounds == bounded.bounds == (0.0, [1.0, 2.0])


@pytest.mark.usefixtures("eagerly")
class TestFastMinimumNorm:
    def test_every_argument_does_something(self):
        keras.utils.set_random_seed(4)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(7, "tanh"), keras.layers.Dense(3)])
        x = np.random.default_rng(0).normal(size=(20, 3))
        base = np.asarray(keras_amm.FastMinimumNorm().perturb(model, x).norm)
        for changed in (
            {"steps": 5}, {"start": keras_amm.DeepFool(1, overshoot=1.0)}, {"step_size": 0.1}, {"gamma": 0.2},
        ):  # fmt: skip
            assert not np.array_equal(base, keras_amm.FastMinimumNorm(**changed).perturb(model, x).norm), changed

    def test_goes_on_to_the_nearer_of_two_classes(self):
        """By its slope at the image class 1 is nearer, and DeepFool arrives there; in truth class 2 is."""
        x = keras.Input((2,))
        u, v = x[:, :1], x[:, 1:]
        logits = keras.layers.Concatenate()([0.0 * u, 2.0 * keras.ops.tanh(u) - 1.0, 2.0 * v * v + v - 0.8])
        model, image = keras.Model(x, logits), np.zeros((1, 2), "float32")
        # Where the two logits are 0, each along its own axis.
        to_first, to_second = np.arctanh(0.5), (np.sqrt(7.4) - 1.0) / 4.0
        np.testing.assert_allclose(keras_amm.DeepFool().perturb(model, image).norm, [to_first], rtol=0.03)
        found = keras_amm.FastMinimumNorm().perturb(model, image)
        np.testing.assert_allclose(found.norm, [to_second], rtol=2e-3)
        np.testing.assert_array_equal(found.target, [2])
        # From 20 steps on it looks in two places.
        np.testing.assert_allclose(keras_amm.FastMinimumNorm(19).perturb(model, image).norm, [to_first], rtol=2e-3)
        np.testing.assert_allclose(keras_amm.FastMinimumNorm(20).perturb(model, image).norm, [to_second], rtol=5e-3)

    def test_counts_the_steps_of_the_start(self, linear):
        model, *_, x, _, _ = linear
        first = keras_amm.DeepFool().perturb(model, x)
        found = keras_amm.FastMinimumNorm(steps=7).perturb(model, x)
        np.testing.assert_array_equal(found.iterations, first.iterations + 7)

    def test_a_failed_start_is_where_it_begins(self):
        """Of a start that stops short of the boundary."""
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(7, "tanh"), keras.layers.Dense(3)])
        x = np.random.default_rng(0).normal(size=(30, 3))
        short = keras_amm.DeepFool(1, overshoot=0.0)
        assert not np.all(short.perturb(model, x).success)
        # With so few steps, there is no run from the image.
        assert np.all(keras_amm.FastMinimumNorm(19, start=short).perturb(model, x).success)

    @pytest.mark.parametrize("start", [keras_amm.DeepFool(), None])
    def test_does_not_run_away_where_the_gradient_vanishes(self, start):
        """A saturated network is hardly ever of the label's class, and its linear boundaries may be anywhere."""
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)])
        # The last class is out of reach.
        model.layers[-1].bias.assign([0.0, 0.0, -20.0])
        x = np.random.default_rng(1).uniform(size=(40, 4))
        prediction = np.argmax(model(x), axis=1)
        y = np.where(np.arange(40) % 2 == 0, 1 - prediction, 2)
        found = keras_amm.FastMinimumNorm(start=start).perturb(model, x, y)
        # One step from the image is the linear boundary, a little beyond.
        first = (start or keras_amm.FastMinimumNorm(1, start=None)).perturb(model, x, y)
        failed = ~np.asarray(found.success)
        # The first perturbation grows by no more than the ball does.
        assert np.mean(failed) == 0.5 and np.all(found.norm <= 4.0 * (1.0 + 0.05) * first.norm)
        np.testing.assert_allclose(found.norm[failed], first.norm[failed], rtol=1e-5)

    def test_start_takes_the_bounds(self):
        attack = keras_amm.FastMinimumNorm(bounds=(0, 1))
        assert attack.start.bounds == (0.0, 1.0) and keras_amm.FastMinimumNorm().start.bounds is None
        with pytest.raises(ValueError, match="The start must have the same `bounds`, or None"):
            keras_amm.FastMinimumNorm(start=keras_amm.DeepFool(bounds=(0, 2)), bounds=(0, 1))

    def test_takes_from_logits_of_the_start(self):
        assert keras_amm.FastMinimumNorm(start=keras_amm.DeepFool(from_logits=True)).from_logits is True

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [({"steps": 0}, "steps=0"), ({"step_size": 0.0}, "step_size=0"), ({"gamma": 1.0}, "gamma=1")],
    )
    def test_bad_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            keras_amm.FastMinimumNorm(**arguments)

    def test_a_start_that_is_none(self):
        with pytest.raises(TypeError, match="`start` must be a"):
            keras_amm.FastMinimumNorm(start="deepfool")


@pytest.mark.usefixtures("eagerly")
class TestSuperDeepFool:
    def test_every_argument_does_something(self):
        keras.utils.set_random_seed(4)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(7, "tanh"), keras.layers.Dense(3)])
        x = np.random.default_rng(0).normal(size=(20, 3))
        base = np.asarray(keras_amm.SuperDeepFool().perturb(model, x).norm)
        for changed in ({"rounds": 1}, {"overshoot": 0.2}):
            assert not np.array_equal(base, keras_amm.SuperDeepFool(**changed).perturb(model, x).norm), changed

    def test_projects_on_the_normal(self):
        """Where DeepFool ends off the normal through the image: the boundary is an ellipse."""
        scale = np.array([1.0, 3.0])

        @keras.saving.register_keras_serializable(package="attacks_test")
        class Ellipse(keras.layers.Layer):
            def call(self, x):
                return tf.stack([tf.ones_like(x[:, 0]), tf.reduce_sum((x * scale) ** 2, axis=1)], axis=1)

        model = keras.Sequential([keras.Input((2,)), Ellipse()])
        x = np.array([[0.3, 0.2], [0.6, 0.15], [-0.8, 0.1]])
        angle = np.linspace(0, 2 * np.pi, 100_001)
        circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) / scale
        distance = np.array([np.linalg.norm(circle - each, axis=1).min() for each in x])
        deepfool = keras_amm.DeepFool(50, refine_steps=15, from_logits=True).perturb(model, x).norm / distance
        for attack in (
            keras_amm.SuperDeepFool(20, overshoot=1e-3, from_logits=True),
            keras_amm.FastMinimumNorm(from_logits=True),
        ):
            found = attack.perturb(model, x).norm / distance
            assert np.all(found > 1 - 1e-3) and np.max(found) < np.max(deepfool)
