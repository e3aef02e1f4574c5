"""LeNet for MNIST, and the light network that the paper calls LeNet for CIFAR and SVHN."""

from collections.abc import Sequence

import keras

from .layers import conv, dense


def lenet_mnist(num_classes: int = 10, input_shape: tuple[int, ...] = (28, 28, 1)) -> keras.Model:
    """The LeNet of Section 4.1.1, in the form of Caffe's example and of the authors' published code.

    Two 5x5 convolutions of 20 and 50 filters without activation, each followed by max-pooling, and ReLU after
    the first dense layer, of 500 units, only: `models/mnist/lenet.py` of amm.pytorch. Its kernels are drawn by He et
    al.'s fan-in, as here, but not truncated. The paper names LeCun et al. (1998), whose network had
    smaller layers and other activations, and counts five layers, with the input as it counts four of the MLP.

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.

    Returns:
        `keras.Model`.
    """
    inputs = keras.Input(input_shape)
    x = inputs
    for filters in (20, 50):
        x = conv(filters, 5)(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    x = dense(500, activation="relu")(x)
    return keras.Model(inputs, dense(num_classes)(x), name="lenet_mnist")


def lenet(
    num_classes: int = 10,
    input_shape: tuple[int, ...] = (32, 32, 3),
    pooling: Sequence[str] = ("max", "average", "average"),
) -> keras.Model:
    """The light ConvNet of Section 4.1.2, a LeNet for CIFAR and SVHN.

    Sizes and pooling are those of the authors' earlier work, Deep Defense, from which
    Section 4.4.2 says that it is copied: 5x5 convolutions of 32, 32 and 64 filters, 2x2
    pooling, a dense layer of 64. DisturbLabel [42] has the same layers with
    overlapping 3x3 pooling. The authors' later code for this paper pools by the maximum
    throughout: `pooling=("max", "max", "max")`.

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.
        pooling: three of "max" and "average", after each convolution.

    Returns:
        `keras.Model`.
    """
    layers = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}
    if len(pooling) != 3 or not set(pooling) <= set(layers):
        raise ValueError(f"Expected three of 'max' and 'average'. Received: pooling={pooling!r}.")
    inputs = keras.Input(input_shape)
    x = inputs
    for filters, kind in zip((32, 32, 64), pooling, strict=True):
        x = conv(filters, 5, padding="same", activation="relu")(x)
        x = layers[kind](2)(x)
    x = keras.layers.Flatten()(x)
    x = dense(64, activation="relu")(x)
    return keras.Model(inputs, dense(num_classes)(x), name="lenet")
