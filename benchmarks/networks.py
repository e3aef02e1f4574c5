"""Trained networks for the benchmarks to attack."""

import keras

import keras_amm
from examples.paper import architectures
from examples.paper.data import arrays

MNIST = ("mlp-800", "lenet-mnist", "liunet-mnist")


def trained(network: str, epochs: int, amm: bool = False) -> keras.Model:
    """A network after a few epochs on all of MNIST, plain or with AMM's default penalty."""
    keras.utils.set_random_seed(0)
    images = arrays.load("mnist", "train")
    classifier = architectures.build(network)
    model = keras_amm.wrap(classifier) if amm else classifier
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images.x, images.y, batch_size=100, epochs=epochs, verbose=2)
    return classifier
