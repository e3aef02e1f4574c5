"""The small network that the quickstart and the pictures train in the same way without and with AMM."""

import keras

import keras_amm

BATCH_SIZE = 50
LEARNING_RATE = 0.03


def compiled_mlp(with_amm: bool, epochs: int, num_train: int) -> keras.Model:
    """An MLP with two hidden layers of 256 ReLUs, compiled with a learning rate that falls to 0 over the epochs."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu", kernel_initializer="he_normal"),
            keras.layers.Dense(256, activation="relu", kernel_initializer="he_normal"),
            keras.layers.Dense(10, kernel_initializer="he_normal"),
        ]
    )
    if with_amm:
        model = keras_amm.wrap(model)
    steps = epochs * -(-num_train // BATCH_SIZE)
    model.compile(
        keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps), momentum=0.9, global_clipnorm=10.0
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model
