"""XLA compiles a training step once, and not again for each batch."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    "regularizer",
    [
        keras_amm.MarginRegularizer(),
        keras_amm.MarginRegularizer.from_paper("min-exp"),
        keras_amm.MarginRegularizer.from_paper("min-exp", screening=0.5, gradient="masked"),
        keras_amm.MarginRegularizer.from_paper("avg-exp", search="ranks", interval=2),
    ],
    ids=["default", "paper", "screening", "ranks"],
)
def test_images_labels_and_weights_are_no_constants_of_the_compiled_step(regularizer):
    """An operation whose shape or place depends on values makes all that they are computed from constants of XLA.

    So these would be parts of the compiled program, which is then compiled anew for each batch.
    """
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(7, "tanh"), keras.layers.Dense(3)])
    model = keras_amm.wrap(network, regularizer, keras_amm.DeepFool(2, 2))
    model.compile(keras.optimizers.SGD(0.1), LOSS, jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    model.make_train_function()
    step = tf.function(lambda x, y: model.train_step((x, y)), jit_compile=True)
    batch = tf.constant(np.random.default_rng(0).normal(size=(11, 5)).astype("float32")), tf.range(11) % 3
    program = step.experimental_get_compiler_ir(*batch)(stage="hlo")
    entry = program[program.index("ENTRY") :]
    shapes = re.findall(r"= (\w+\[[\d,]*\])\S* parameter\(", entry)
    assert {"f32[11,5]", "s32[11]", "f32[5,7]", "f32[7]", "f32[7,3]", "f32[3]"} <= set(shapes)
