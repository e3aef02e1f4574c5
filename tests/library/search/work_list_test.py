"""What a best-first search needs: never more than may matter, and in the end nothing."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_amm import aggregation
from keras_amm.search.work_list import Known, Standing, Wanted, limits, needed

CLASSES = 3
FRACTION = 0.3


@st.composite
def _batches(draw):
    """Norms, and bounds and estimates that hold for them."""
    number = draw(st.integers(1, 16))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    norm = generator.permutation(np.linspace(0.1, 3.0, number))
    low, high = norm * generator.uniform(0.5, 1.0, number), norm * generator.uniform(1.0, 2.0, number)
    return {
        "label": generator.integers(0, CLASSES, number).astype("int32"),
        "correct": generator.random(number) < 0.8,
        "norm": norm,
        "low": low,
        "high": high,
        "estimate": generator.uniform(low, high),
    }


def _known(batch, done):
    """What is known when some walks are done, and each of the others is at its first step, to its one candidate."""
    number = len(done)
    low, high, estimate = (np.where(done, batch["norm"], batch[name]) for name in ("low", "high", "estimate"))
    constants = [tf.constant(values) for values in (batch["label"], batch["correct"], done, estimate, low, high)]
    return Known(
        standing=Standing(*constants),
        lower=tf.constant(low),
        of_classes=tf.fill([number, 1], tf.constant(np.inf, tf.float64)),
        of_nearest=tf.constant(low),
        is_stuck=tf.zeros(number, tf.bool),
        estimate=tf.constant(estimate),
    )


def _wanted(name, number, wrong=True):
    entry = aggregation.find_entry(name)
    top = aggregation.num_selected_per_side(number, FRACTION) if entry.counts_near_only else None
    return Wanted(top, entry.counts_one_per_label, wrong, None)


def _needed_steps(batch, done, wanted):
    known = _known(batch, done)
    items, _ = needed(known, limits(known.standing, wanted, CLASSES), tf.constant(batch["correct"]), wanted)
    assert not np.any(items[:, 0])
    return items[:, 1].numpy()


@pytest.mark.parametrize("name", ["min", "nearest", "avg"])
@settings(max_examples=60, deadline=None)
@given(batch=_batches())
def test_when_nothing_is_needed_the_selection_is_that_of_the_norms(name, batch):
    """Of bounds that hold, whatever the estimates."""
    number = len(batch["norm"])
    wanted, done = _wanted(name, number), np.zeros(number, bool)
    for _ in range(number + 1):
        steps = _needed_steps(batch, done, wanted)
        assert not np.any(steps & done)
        if not steps.any():
            break
        done |= steps
    assert not steps.any()
    assert done[~batch["correct"]].all() and (name != "avg" or done.all())
    estimated = batch["correct"] & ~done
    ranked = np.where(done, batch["norm"], batch["estimate"])
    every = np.ones(number, bool)
    select, correct = aggregation.get(name), batch["correct"]
    got = select(ranked, np.where(estimated, -1, batch["label"]), correct, every, top_fraction=FRACTION) & ~estimated
    np.testing.assert_array_equal(got, select(batch["norm"], batch["label"], correct, every, top_fraction=FRACTION))


@pytest.mark.parametrize("name", ["min", "nearest"])
@settings(max_examples=60, deadline=None)
@given(batch=_batches(), data=st.data())
def test_a_step_is_needed_iff_the_norm_may_be_below_the_limit(name, batch, data):
    """Where the ends of what is likely are the estimate, so that no rank is in doubt."""
    number = len(batch["norm"])
    batch = {**batch, "low": batch["estimate"], "high": batch["estimate"]}
    done = np.array(data.draw(st.lists(st.booleans(), min_size=number, max_size=number)))
    wanted = _wanted(name, number, wrong=False)
    key = np.where(done, batch["norm"], batch["estimate"])
    right = np.flatnonzero(batch["correct"])
    in_order = np.sort(key[right])
    last = in_order[wanted.top - 1] if wanted.top <= len(right) else np.inf
    expected = np.zeros(number, bool)
    for i in right:
        same = right[batch["label"][right] == batch["label"][i]]
        least = key[same].min() if name == "min" else np.inf
        expected[i] = not done[i] and key[i] <= min(least, last)
    np.testing.assert_array_equal(_needed_steps(batch, done, wanted), expected)


def test_a_probe_is_needed_before_the_step_iff_its_class_may_be_nearer():
    number = 5
    known = Known(
        standing=Standing(
            tf.zeros(number, tf.int32),
            tf.fill([number], True),
            tf.constant([False] * 4 + [True]),
            *[tf.ones(number)] * 3,
        ),
        lower=tf.constant([0.5, 0.5, 0.5, 3.0, 0.5]),
        of_classes=tf.constant([[np.inf, 0.9], [np.inf, 1.1], [0.9, np.inf], [0.9, 0.9], [0.9, 0.9]], tf.float32),
        of_nearest=tf.ones(number),
        is_stuck=tf.constant([False, False, True, False, False]),
        estimate=tf.ones(number),
    )
    limit, correct = tf.fill([number], 2.0), tf.fill([number], True)
    items, order = needed(known, limit, correct, Wanted(1, False, True, None))
    np.testing.assert_array_equal(items, [[0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(order[:, 2], known.lower)
    # Without a gradient there is no step.
    items, _ = needed(known._replace(of_classes=known.of_classes + 9.0), limit, correct, Wanted(1, False, True, None))
    np.testing.assert_array_equal(items[:, 2], [True, True, False, False, False])


def test_no_misclassified_sample_is_needed_if_none_counts():
    batch = {"label": np.array([0, 1], "int32"), "correct": np.array([True, False])}
    batch |= {name: np.ones(2) for name in ("norm", "low", "high", "estimate")}
    for wrong in (True, False):
        np.testing.assert_array_equal(_needed_steps(batch, np.zeros(2, bool), _wanted("min", 2, wrong)), [True, wrong])
