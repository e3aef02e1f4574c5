"""Rounds of loops that are graphs of their own."""

import numpy as np
import tensorflow as tf

from keras_amm.execution.loops import as_round


def _doubled(x, rounds):
    weight = tf.Variable(2.0) if tf.executing_eagerly() else None
    factor = tf.constant(2.0) if weight is None else weight

    def body(i, y):
        assert y.shape == x.shape
        return i + 1, factor * y

    return tf.while_loop(lambda i, _: i < rounds, as_round(body), (0, x))[1]


def test_a_round_computes_the_same_in_every_mode():
    x = tf.constant([1.0, -3.0])
    for jit_compile in (None, False, True):
        compute = _doubled if jit_compile is None else tf.function(_doubled, autograph=False, jit_compile=jit_compile)
        np.testing.assert_array_equal(compute(x, tf.constant(3)), [8.0, -24.0])


def test_it_is_a_graph_of_its_own():
    graph = tf.function(_doubled, autograph=False).get_concrete_function(tf.zeros(2), tf.constant(3)).graph
    functions = graph.as_graph_def().library.function
    assert [function for function in functions if function.attr["_noinline"].b]
