"""Batch normalisation as margin training needs it: frozen."""

import keras

# As in He et al. and in the PyTorch models that the paper fine-tunes. Keras's own defaults are 0.99 and 1e-3.
MOMENTUM = 0.9
EPSILON = 1e-5


def batch_normalization(**kwargs: object) -> keras.layers.BatchNormalization:
    """Batch normalisation with the references' momentum 0.9 and epsilon 1e-5."""
    return keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, **kwargs)


def freeze_batch_normalization(model: keras.Model) -> int:
    """Freeze every batch normalisation of a model, in place, nested ones too.

    A frozen layer uses its moving statistics, in training as well, and trains neither these
    nor scale and offset. So the margin of an image does not depend on the others of its batch
    (Sections 4.4.1 and 4.4.2). Call it after the reference is trained, for frozen layers
    learn no statistics, and before `compile`, which Keras asks for whenever `trainable` changes.

    Args:
        model: `keras.Model`.

    Returns:
        int, how many layers were frozen; 0 for a network that has none.

    Example:
    >>> from examples.paper import architectures
    >>> model = architectures.build("resnet-20")
    >>> architectures.freeze_batch_normalization(model)
    19
    """
    found = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in found:
        layer.trainable = False
    return len(found)
