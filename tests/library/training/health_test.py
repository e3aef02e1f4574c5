"""`fit` warns once of what makes margins meaningless, says what to do, and is silent about a healthy training."""

import warnings

import keras
import numpy as np
import pytest

import keras_amm
from keras_amm.gradient.conditions import CONDITIONS, Setting, Window
from keras_amm.gradient.health import expects_probabilities
from tests.helpers.networks import LOSS

BATCH, STEPS = 8, 64
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH * STEPS, 2)).astype("float32")
Y = (X[:, 0] > 0.0).astype("int32")
EMPTY = Window(*[0.0] * len(Window._fields))
PENALTY = {"gradient": "boundary", "search": "exact"}


def network(weights=None, layers=None):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), *(layers or [keras.layers.Dense(2)])])
    if weights is not None:
        model.set_weights(weights)
    return model


def collapsed():
    """Its logits' difference is -1 - exp(x_0), never positive, with a gradient: attacks go far, and reach nothing."""
    hidden = [np.array([[1.0], [0.0]]), np.array([0.0])]
    return network(
        [*hidden, np.array([[0.0, -1.0]]), np.array([0.0, -1.0])],
        [keras.layers.Dense(1, "exponential"), keras.layers.Dense(2)],
    )


def told(classifier, x=X, y=Y, epochs=1, rate=0.0, loss=LOSS, penalty=None, attack=None, **compiled):
    """The warnings of a fit."""
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", **{**PENALTY, **(penalty or {})})
    model = keras_amm.wrap(classifier, regularizer, attack)
    model.compile(keras.optimizers.SGD(rate), loss, **compiled)
    return model, told_by(model, x, y, epochs)


def told_by(model, x=X, y=Y, epochs=1):
    with warnings.catch_warnings(record=True) as caught:
        # As Python does by default: a text of one place is shown once, which must not keep a second fit silent.
        warnings.simplefilter("default")
        model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0)
    return [str(warning.message) for warning in caught]


def test_a_healthy_training():
    _, messages = told(network(), epochs=3, rate=0.05)
    assert messages == []


def test_a_collapsed_classifier_is_told_of_once_a_fit():
    """First that it predicts one class, the cause, and in the next window that few attacks succeed, the effect."""
    model, messages = told(collapsed(), epochs=3)
    one_class, few = messages
    assert "100% of the images of a batch are predicted as one class, though only" in one_class
    assert "above_chance=True" in one_class and "\n" not in one_class
    assert few.startswith("Only ") and "max_iterations=50" in few and "\n" not in few
    assert told_by(model, epochs=2) == messages


@pytest.mark.parametrize(("steps", "number"), [(39, 0), (40, 1)])
def test_a_short_fit_is_judged_at_its_end(steps, number):
    """After a whole window and ten batches; of fewer there is too little to tell."""
    assert len(told(collapsed(), X[: BATCH * steps], Y[: BATCH * steps])[1]) == number


@pytest.mark.parametrize(
    ("others", "predicted_otherwise", "is_told"), [(60, 0, True), (60, 3, True), (60, 4, False), (19, 0, False)]
)
def test_one_class_where_few_labels_are_of_another(others, predicted_otherwise, is_told):
    (condition,) = (each for each in CONDITIONS if each.name == "one class")
    window = EMPTY._replace(
        batches=30.0, samples=960.0, labelled_alike=960.0 - others, predicted_alike=960.0 - predicted_otherwise
    )
    setting = Setting(keras_amm.MarginRegularizer(), keras_amm.DeepFool(), False, [])
    assert condition.holds(window, setting) == is_told
    if is_told:
        assert condition.message(window, setting).startswith(f"Hardly any of the {others} images of other classes")


@pytest.mark.parametrize(("reduction", "is_told"), [("sum", True), ("sum_over_batch_size", False)])
def test_a_loss_that_is_a_sum(reduction, is_told):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
    _, messages = told(network(), loss=loss)
    assert [f"the penalty is {BATCH} times as weak" in message for message in messages] == [True] * is_told


def test_one_class_is_no_fault_where_the_labels_are_of_one():
    _, messages = told(network([np.array([[0.0, 0.1], [0.0, 0.0]]), np.array([1.0, 0.0])]), y=np.zeros_like(Y))
    assert messages == []


# A large number would be told of, too: every pull is at its bound.
@pytest.mark.parametrize("strength", ["auto", 0.01])
def test_images_sorted_by_class(strength):
    """With two classes, the automatic strength has no penalty in a batch of one; a number has."""
    order = np.argsort(Y)
    classifier = network([np.array([[-1.0, 1.0], [0.0, 0.0]]), np.zeros(2)])
    penalty = {"strength": strength, "max_influence": 4.0, "normalize": "median"}
    _, messages = told(classifier, X[order], Y[order], epochs=2, penalty=penalty)
    assert len(messages) == (strength == "auto")
    if messages:
        assert "of the same class in 29 of 30 batches" in messages[0] and "Shuffle" in messages[0]


def test_few_successes():
    """One step towards the boundary of this convex function stops before it, although predictions are right."""
    layers = [keras.layers.Dense(1, "exponential"), keras.layers.Dense(2)]
    weights = [np.array([[1.0], [0.0]]), np.array([0.0]), np.array([[0.0, 1.0]]), np.array([0.0, -1.0])]
    one_step = keras_amm.DeepFool(max_iterations=1, overshoot=0.0)
    _, messages = told(network(weights, layers), np.abs(X), np.ones_like(Y), attack=one_step)
    assert len(messages) == 1 and messages[0].startswith("Only 0% of the attacks of 30 batches reached a boundary")


@pytest.mark.parametrize(("only_successful", "is_told"), [(True, True), (False, False)])
def test_failing_is_no_fault_where_failed_attacks_are_meant_to_count(only_successful, is_told):
    (condition,) = (each for each in CONDITIONS if each.name == "few successes")
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", only_successful=only_successful)
    window = EMPTY._replace(batches=30.0, searched=100.0, success=49.0)
    assert condition.holds(window, Setting(regularizer, keras_amm.DeepFool(), True, [])) == is_told


def test_capped():
    """Every sample is wrong, and so far that its penalty is at the cap; both classes are predicted."""
    _, messages = told(network([np.array([[10.0, -10.0], [0.0, 0.0]]), np.zeros(2)]), penalty={"d": 1e4})
    assert len(messages) == 1
    assert "samples that the penalty counted in 30 batches have no gradient" in messages[0]
    assert "max_penalty=50" in messages[0] and "normalize='median'" in messages[0]


@pytest.mark.parametrize(
    ("settings", "advice", "not_so"),
    [
        ({"strength": 1e4, "normalize": "median"}, "Choose a `strength` that is smaller than the cap", "normalize"),
        ({"strength": 32.0, "normalize": "median"}, "Choose smaller c and d than 2 and 1.", "normalize"),
        ({"strength": 32.0}, "or `normalize='median'`", "smaller than the cap"),
    ],
)
def test_what_to_do_where_samples_are_at_the_cap(settings, advice, not_so):
    """A strength above the cap puts correct samples there, too, and then smaller c and d would be no help."""
    (condition,) = (each for each in CONDITIONS if each.name == "capped")
    window = EMPTY._replace(batches=30.0, counted=100.0, capped=100.0)
    setting = Setting(keras_amm.MarginRegularizer.from_paper("min-exp", **settings), keras_amm.DeepFool(), True, [])
    assert condition.holds(window, setting)
    message = condition.message(window, setting)
    assert advice in message and not_so not in message


def test_far_samples_of_an_automatic_strength_are_not_capped():
    """Every sample is right, and so far that its penalty and its pull are 0, as they are meant to be."""
    bounded = {"strength": "auto", "max_influence": 0.5, "c": 1e4, "normalize": "median"}
    assert told(network([np.array([[-10.0, 10.0], [0.0, 0.0]]), np.zeros(2)]), penalty=bounded)[1] == []


@pytest.mark.parametrize(
    ("gradient", "strength", "is_told"), [("boundary", 1e4, True), ("unrolled", 1e4, True), ("boundary", 0.1, False)]
)
def test_clipped(gradient, strength, is_told):
    """A strength so large that every pull is at its bound."""
    penalty = {"strength": strength, "max_influence": 4.0, "max_penalty": 1e9, "gradient": gradient}
    classifier = network([np.array([[-1.0, 1.0], [0.0, 0.0]]), np.zeros(2)])
    messages = told(classifier, penalty=penalty)[1]
    assert len(messages) == is_told
    if is_told:
        assert "as max_influence=4 allows" in messages[0] and "strength='auto'" in messages[0]


@pytest.mark.parametrize(("clipped", "capped", "is_told"), [(321, 34, True), (300, 34, False), (5, 350, False)])
def test_clipped_where_others_are_at_the_cap(clipped, capped, is_told):
    """The more the larger the strength; where nearly all are, that is told instead."""
    (condition,) = (each for each in CONDITIONS if each.name == "clipped")
    window = EMPTY._replace(batches=30.0, counted=355.0, clipped=float(clipped), capped=float(capped))
    setting = Setting(keras_amm.MarginRegularizer(strength=64.0), keras_amm.DeepFool(), False, [])
    assert condition.holds(window, setting) == is_told


def test_infinite():
    weights = [np.array([[0.0, 1e-8], [0.0, 0.0]]), np.array([1e14, 0.0])]
    _, messages = told(network(weights), X[:BATCH], np.zeros(BATCH, int), run_eagerly=True)
    assert "The margin of 8 images in 1 batches is infinite" in messages[0] and "weight decay" in messages[0]


def test_pixels_up_to_255():
    layers = [keras.layers.Rescaling(1.0 / 255.0, name="to_unit"), keras.layers.Dense(2)]
    x = RNG.uniform(0.0, 255.0, size=(BATCH, 2)).astype("float32")
    _, (message,) = told(network(layers=layers), x, (x[:, 0] > 127).astype(int), run_eagerly=True)
    assert "scaled within the model (to_unit)" in message and "normalize='median'" in message


def test_pixels_up_to_255_of_a_penalty_without_units():
    layers = [keras.layers.Rescaling(1.0 / 255.0, name="to_unit"), keras.layers.Dense(2)]
    x = RNG.uniform(0.0, 255.0, size=(BATCH, 2)).astype("float32")
    penalty = {"normalize": "median"}
    _, (message,) = told(network(layers=layers), x, (x[:, 0] > 127).astype(int), penalty=penalty, run_eagerly=True)
    assert "scaled within the model (to_unit), so margins have the unit of its inputs" in message


def test_layers_that_scale_are_no_fault_by_themselves():
    """Networks of keras.applications scale images in 0..1 to what their weights are for."""
    x, layers = np.abs(X[:BATCH]) / 4.0, [keras.layers.Rescaling(255.0), keras.layers.Dense(2)]
    assert told(network(layers=layers), x, Y[:BATCH], run_eagerly=True)[1] == []


@pytest.mark.parametrize(
    ("penalty", "size", "is_told"),
    [
        ({}, 0.3, False),
        ({}, 147.0, True),
        ({"normalize": "median"}, 147.0, False),
        ({"normalize": "input"}, 147.0, False),
        ({"c": 2.0 / 255.0}, 147.0, False),
        ({"shrinkage": "hinge", "c": 0.5}, 147.0, True),
        ({"shrinkage": "hinge", "c": 100.0}, 147.0, False),
    ],
)
def test_values_that_c_and_d_do_not_fit(penalty, size, is_told):
    (condition,) = (each for each in CONDITIONS if each.name == "values")
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", **penalty)
    window = EMPTY._replace(batches=3.0, size_of_values=3.0 * size)
    assert condition.holds(window, Setting(regularizer, keras_amm.DeepFool(), True, [])) == is_told


@pytest.mark.parametrize(
    ("loss", "head", "is_told"),
    [
        ("sparse_categorical_crossentropy", None, True),
        (keras.losses.SparseCategoricalCrossentropy(), None, True),
        (keras.losses.SparseCategoricalCrossentropy(), "softmax", False),
        (LOSS, None, False),
    ],
)
def test_the_losss_from_logits(loss, head, is_told):
    classifier = network(layers=[keras.layers.Dense(2, activation=head)])
    _, messages = told(classifier, X[:BATCH], Y[:BATCH], loss=loss, run_eagerly=True)
    assert len(messages) == is_told and all("from_logits=True" in message for message in messages)


def test_logits_of_one_unit():
    classifier = network(layers=[keras.layers.Dense(1)])
    assert "are logits" in told(classifier, X[:BATCH], Y[:BATCH], loss="binary_crossentropy", jit_compile=True)[1][0]


def test_probabilities_taken_for_logits_are_told_by_keras():
    classifier = network(layers=[keras.layers.Dense(2, "softmax")])
    _, messages = told(classifier, X[:BATCH], Y[:BATCH], run_eagerly=True)
    assert messages and all("Was this intended?" in message for message in messages)


def test_a_loss_of_its_own():
    assert not expects_probabilities(None)
    assert not expects_probabilities("mse")
    assert expects_probabilities([keras.losses.CategoricalCrossentropy()])


def test_without_a_penalty_nothing_is_counted():
    assert (
        told(collapsed(), epochs=2, penalty={"strength": keras.optimizers.schedules.PolynomialDecay(0.0, 1, 0.0)})[1]
        == []
    )


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_nothing_holds_of_an_empty_window(condition):
    assert not condition.holds(EMPTY, Setting(keras_amm.MarginRegularizer(), keras_amm.DeepFool(), True, []))
