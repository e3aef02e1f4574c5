"""Rows that are dropped, and under XLA masked: what matters is the same."""

import numpy as np
import pytest
import tensorflow as tf

from keras_amm.execution import xla

MASKS = [[True, False, True, True], [False] * 4, [True] * 4]


def _both(function):
    return [tf.function(function, autograph=False, jit_compile=jit)() for jit in (False, True)]


def test_in_xla_at_any_depth():
    def nested():
        return tf.function(lambda: tf.constant(xla.in_xla()))()

    assert not xla.in_xla()
    assert [bool(found) for found in _both(nested)] == [False, True]


@pytest.mark.parametrize("mask", [*MASKS, None])
def test_rows_are_changed_and_the_others_stay(mask):
    batch = {"vectors": np.arange(12.0).reshape(4, 3), "classes": np.arange(4)}

    def change():
        rows = xla.Rows(None if mask is None else tf.constant(mask))
        whole = {name: tf.constant(values) for name, values in batch.items()}
        return rows.put(whole, {name: -values for name, values in rows.take(whole).items()})

    sign = np.where([True] * 4 if mask is None else mask, -1, 1)
    for found in _both(change):
        np.testing.assert_array_equal(found["vectors"], sign[:, None] * batch["vectors"])
        np.testing.assert_array_equal(found["classes"], sign * batch["classes"])


@pytest.mark.parametrize("mask", MASKS)
def test_indices_begin_with_the_rows_under_the_mask(mask):
    dropped, masked = _both(lambda: xla.indices(tf.constant(mask), at_most=3))
    wanted = np.flatnonzero(mask)
    np.testing.assert_array_equal(dropped, wanted if any(mask) else [0])
    assert len(masked) == 3
    np.testing.assert_array_equal(masked[: len(wanted)], wanted[:3])


@pytest.mark.parametrize(("counts", "wanted"), [([2, 3, 1], 3), ([0, 0], 1)])
def test_largest(counts, wanted):
    assert [int(found) for found in _both(lambda: xla.largest(tf.constant(counts), at_most=6))] == [wanted, 6]


@pytest.mark.parametrize(("number", "parts"), [(0, 0), (2, 1), (3, 2), (6, 3)])
def test_gradients_are_summed_until_no_row_is_left(number, parts):
    weight = tf.Variable([1.0, 1.0])
    x = tf.reshape(tf.range(12.0), (6, 2))
    mask = tf.range(6) < number
    calls = tf.Variable(0)

    def total():
        def gradients(rows):
            calls.assign_add(1)
            factor, vectors, nothing = rows
            assert nothing is None
            return [tf.reduce_sum(factor[:, None] * vectors, axis=0)]

        rows = (tf.cast(mask, tf.float32), x, None)
        return xla.sum_of_gradients(gradients, rows, tf.constant(number), [weight], at_a_time=2)

    for (found,) in _both(total):
        np.testing.assert_array_equal(found, np.sum(x[:number], axis=0))
    assert int(calls) == 1 + parts


@pytest.mark.parametrize("mask", MASKS)
def test_the_most_urgent_are_chosen_first(mask):
    """XLA counts none that is not selected, and takes what is infinite or NaN last, but takes it."""
    urgency = np.array([2.0, 1.0, np.nan, np.inf], "float32")

    def choose():
        index, counts = xla.choose(tf.constant(mask), tf.constant(urgency), at_most=3)
        return index, tf.ones_like(index, tf.bool) if counts is None else counts

    (dropped, all_count), (filled, counts) = _both(choose)
    wanted = np.flatnonzero(mask)[:3]
    np.testing.assert_array_equal(dropped, wanted)
    assert np.all(all_count) and len(filled) == 3
    in_order = sorted(np.flatnonzero(mask), key=lambda i: np.nan_to_num(urgency[i], nan=np.inf, posinf=np.inf))
    chosen = np.asarray(filled)[np.asarray(counts)]
    assert list(chosen[:2]) == in_order[:2] and len(chosen) == len(wanted) and set(chosen) <= set(np.flatnonzero(mask))


@pytest.mark.parametrize("counts", [[True, False, True], [False] * 3, None])
def test_slices_are_put_where_they_count(counts):
    old, new = np.zeros((4, 2, 2), "float32"), np.arange(1, 7, dtype="float32").reshape(3, 2)
    index = np.array([[3, 0], [1, 1], [0, 1]], "int32")
    wanted = old.copy()
    for number, (row, column) in enumerate(index):
        if counts is None or counts[number]:
            wanted[row, column] = new[number]

    def put():
        return xla.put_rows(tf.constant(old), tf.constant(index), tf.constant(new), counts and tf.constant(counts))

    for found in _both(put):
        np.testing.assert_array_equal(found, wanted)
