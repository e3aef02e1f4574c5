"""What every aggregation must satisfy: a new entry of the table is tested by its being there."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

import keras_amm
from keras_amm import aggregation
from tests.library.gradient.regularizer_test import BATCH

CLASSES = 5
FRACTIONS = [0.05, 0.2, 0.3, 0.7, 1.0]


@pytest.fixture(params=aggregation.ENTRIES, ids=lambda entry: entry.identifier)
def entry(request):
    return request.param


@st.composite
def _batches(draw):
    """Norms from so few numbers that many are equal."""
    size = draw(st.integers(1, 40))

    def several(each):
        return np.array(draw(st.lists(each, min_size=size, max_size=size)))

    return {
        "norm": several(st.integers(0, 12)).astype("float32"),
        "labels": several(st.integers(0, CLASSES - 1)),
        "correct": several(st.booleans()),
        "success": several(st.booleans()),
    }


def _batch(size=24, equal=False):
    generator = np.random.default_rng(0)
    norm = np.ones(size) if equal else generator.permutation(size) / size
    return {
        "norm": norm.astype("float32"),
        "labels": generator.integers(0, CLASSES, size),
        "correct": generator.random(size) < 0.6,
        "success": generator.random(size) < 0.8,
    }


def test_is_public_and_found_by_name_and_function(entry):
    assert entry.identifier in aggregation.__all__
    assert getattr(aggregation, entry.identifier) is entry.function
    assert aggregation.get(entry.identifier) is entry.function
    assert aggregation.get(entry.function) is entry.function
    assert aggregation.find_entry(entry.function) is aggregation.find_entry(entry.identifier) is entry


def test_name_survives_saving(entry):
    for given_as in (entry.identifier, entry.function):
        regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", aggregation=given_as)
        assert regularizer.aggregation == entry.identifier
        config = json.loads(json.dumps(regularizer.get_config()))
        assert config["aggregation"] == entry.identifier
        assert keras_amm.MarginRegularizer.from_config(config).get_config() == regularizer.get_config()


@pytest.mark.parametrize("name", [entry.identifier for entry in aggregation.ENTRIES])
@settings(max_examples=100, deadline=None)
@given(batch=_batches(), fraction=st.sampled_from(FRACTIONS))
@example(batch=BATCH, fraction=0.4)  # correct and wrong samples count
def test_selects_some_that_succeeded_and_never_more_than_its_bound(name, batch, fraction):
    entry = aggregation.find_entry(name)
    mask = np.asarray(entry.function(**batch, top_fraction=fraction))
    assert mask.dtype == bool and mask.shape == batch["norm"].shape
    assert not np.any(mask & ~batch["success"])
    assert np.any(mask) == np.any(batch["success"])
    size = len(mask)
    bound = entry.max_selected(size, CLASSES, fraction)
    assert np.sum(mask) <= bound <= size
    assert int(entry.max_selected(tf.constant(size), CLASSES, fraction)) == bound
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", aggregation=name, top_fraction=fraction)
    assert regularizer.max_selected(size, num_classes=CLASSES) == bound


@pytest.mark.parametrize("name", [entry.identifier for entry in aggregation.ENTRIES])
@settings(max_examples=50, deadline=None)
@given(batch=_batches(), fraction=st.sampled_from(FRACTIONS), data=st.data())
def test_a_sample_that_becomes_more_urgent_stays_selected(name, batch, fraction, data):
    function = aggregation.get(name)
    selected = np.flatnonzero(function(**batch, top_fraction=fraction))
    if not len(selected):
        return
    index = data.draw(st.sampled_from(list(selected)))
    moved = batch["norm"].copy()
    moved[index] += -1.0 if batch["correct"][index] else 1.0
    assert np.asarray(function(**{**batch, "norm": moved}, top_fraction=fraction))[index]


@pytest.mark.parametrize("name", [entry.identifier for entry in aggregation.ENTRIES if entry.counts_near_only])
@settings(max_examples=100, deadline=None)
@given(batch=_batches(), fraction=st.sampled_from(FRACTIONS))
def test_what_screening_leaves_out_never_counted(name, batch, fraction):
    """Without the correct samples beyond the nearest `top_fraction` of the batch, the same ones are selected."""
    function = aggregation.get(name)
    right = np.flatnonzero(batch["correct"] & batch["success"])
    ranked = right[np.argsort(batch["norm"][right], kind="stable")]
    left_out = ranked[max(1, int(len(batch["norm"]) * fraction)) :]
    success = batch["success"].copy()
    success[left_out] = False
    np.testing.assert_array_equal(
        function(**{**batch, "success": success}, top_fraction=fraction), function(**batch, top_fraction=fraction)
    )


def test_some_aggregation_can_be_screened_and_some_cannot():
    assert {entry.counts_near_only for entry in aggregation.ENTRIES} == {True, False}
    for entry in aggregation.ENTRIES:
        if entry.counts_near_only:
            keras_amm.MarginRegularizer.from_paper("min-exp", aggregation=entry.function, screening=0.3)
        else:
            with pytest.raises(
                ValueError,
                match=r"needs aggregation='min' or 'nearest', which never counts those.*Received: screening=0\.3",
            ):
                keras_amm.MarginRegularizer.from_paper("min-exp", aggregation=entry.function, screening=0.3)


def test_order_of_the_batch_does_not_matter(entry):
    batch = _batch()
    order = np.random.default_rng(1).permutation(24)
    mask = np.asarray(entry.function(**batch, top_fraction=0.3))
    shuffled = entry.function(**{name: values[order] for name, values in batch.items()}, top_fraction=0.3)
    np.testing.assert_array_equal(shuffled, mask[order])


@pytest.mark.parametrize("equal", [False, True])
def test_is_the_same_eagerly_in_a_graph_and_under_xla(entry, equal):
    batch = {name: tf.constant(values) for name, values in _batch(equal=equal).items()}

    def run(norm, labels, correct, success):
        return entry.function(norm, labels, correct, success, top_fraction=0.3)

    wanted = run(**batch)
    shapeless = [tf.TensorSpec([None], part.dtype) for part in batch.values()]
    for function in (
        tf.function(run, jit_compile=False),
        tf.function(run, jit_compile=False, input_signature=shapeless),
        tf.function(run, jit_compile=True),
    ):
        np.testing.assert_array_equal(function(*batch.values()), wanted)
    assert 0 < np.sum(wanted) <= entry.max_selected(24, CLASSES, 0.3)


@pytest.mark.parametrize("norm", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("labels", ["int32", "int64", "uint8"])
def test_takes_any_dtype(entry, norm, labels):
    batch = _batch(16)
    cast = {**batch, "norm": tf.cast(batch["norm"], norm), "labels": tf.cast(batch["labels"], labels)}
    mask = entry.function(**cast, top_fraction=0.5)
    assert mask.dtype == tf.bool
    np.testing.assert_array_equal(mask, entry.function(**batch, top_fraction=0.5))


def test_a_callable_may_select_the_whole_batch():
    entry = aggregation.find_entry(lambda norm, *_, top_fraction: norm > 0)
    assert entry.identifier is entry.function
    assert entry.max_selected(7, CLASSES, 0.2) == 7
    assert not entry.counts_near_only


def test_an_unknown_name_is_answered_with_all_that_are_known():
    names = sorted(entry.identifier for entry in aggregation.ENTRIES)
    with pytest.raises(ValueError, match="must be one of") as error:
        aggregation.get("median")
    assert f"`aggregation` must be one of {names} or a callable" in str(error.value)
    assert str(error.value).endswith("Received: aggregation='median'.")


def test_minimum_selects_the_nearest_of_each_class():
    mask = keras_amm.aggregation.min(**BATCH, top_fraction=0.4)
    # two correct ones may count: 0.2 (label 0) and 0.5, which is not its label's nearest;
    # of the wrong ones the largest of each label, both among the two largest
    np.testing.assert_array_equal(mask, [False, True, False, True, True, False])


def _reference_min(norm, labels, correct, success, top_fraction):
    """Section 3.3.1 in words."""
    chosen = np.zeros(len(norm), bool)
    top = max(1, int(len(norm) * top_fraction))
    for side, sign in ((correct, 1.0), (~correct, -1.0)):
        index = np.flatnonzero(side & success)
        ranked = index[np.argsort(sign * norm[index], kind="stable")]
        seen = set()
        for place, i in enumerate(ranked):
            if labels[i] not in seen and place < top:
                chosen[i] = True
            seen.add(labels[i])
    return chosen


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_minimum_equals_its_description(data):
    number = data.draw(st.integers(1, 40))
    norm = np.array(data.draw(st.lists(st.integers(0, 12), min_size=number, max_size=number)), "float32")
    labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=number, max_size=number)))
    correct = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    success = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    fraction = data.draw(st.sampled_from([0.05, 0.2, 0.3, 0.7, 1.0]))
    got = keras_amm.aggregation.min(norm, labels, correct, success, top_fraction=fraction)
    np.testing.assert_array_equal(got, _reference_min(norm, labels, correct, success, fraction))
    bound = keras_amm.MarginRegularizer.from_paper("min-exp", top_fraction=fraction).max_selected(number, num_classes=5)
    assert np.sum(got) <= bound
    if np.any(correct & success):
        assert np.any(np.asarray(got) & correct)


@pytest.mark.parametrize("size", [1, 5, 10, 15, 100, 1000])
@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.3, 0.7, 1.0])
def test_the_number_selected_is_the_same_for_a_static_and_a_dynamic_batch(size, fraction):
    static = keras_amm.aggregation.num_selected_per_side(size, fraction)
    assert static == int(keras_amm.aggregation.num_selected_per_side(tf.constant(size), fraction))
    assert static == max(1, int(size * fraction))
