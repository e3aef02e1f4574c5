"""The paper's MNIST networks (Section 4.1.1), with logits as output."""

import keras


def mlp(input_shape: tuple[int, ...] = (28, 28, 1), num_classes: int = 10, units: int = 800) -> keras.Model:
    """The MLP of Section 4.1.1: two hidden layers of 800 ReLUs."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            _dense(units, activation="relu"),
            _dense(units, activation="relu"),
            _dense(num_classes),
        ],
        name=f"mlp_{units}",
    )


def lenet(input_shape: tuple[int, ...] = (28, 28, 1), num_classes: int = 10) -> keras.Model:
    """LeNet as Caffe has it: ReLU after the first dense layer only."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            _conv(20),
            keras.layers.MaxPooling2D(2),
            _conv(50),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            _dense(500, activation="relu"),
            _dense(num_classes),
        ],
        name="lenet",
    )


ARCHITECTURES = {"mlp-800": mlp, "lenet": lenet}


def _dense(units: int, activation: str | None = None) -> keras.layers.Layer:
    return keras.layers.Dense(units, activation=activation, kernel_initializer="he_normal")


def _conv(filters: int) -> keras.layers.Layer:
    return keras.layers.Conv2D(filters, 5, kernel_initializer="he_normal")
