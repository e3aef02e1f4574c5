"""Networks to fine-tune: an earlier run's, a file's, or ImageNet's from `keras.applications`."""

import pathlib
import re
import warnings
from typing import Any

import keras
import numpy as np

import architectures

# keras.applications takes pixels of 0..255, blue first, less these.
_CHANNELS = [2, 1, 0]
_SCALE = 255.0


def load_network(name: str, num_classes: int, source: str, **options: Any) -> keras.Model:
    """A trained network.

    A file `.keras` says itself which network it holds. A file `.weights.h5` does not: it goes into the network that
    `architectures.build` makes with the same options, which must be those that it was trained with.

    Args:
        name: str, one of `architectures.ARCHITECTURES`.
        num_classes: int, the number of its logits.
        source: str: the folder of a finished run; a file `.keras` or `.weights.h5` of this network; for resnet-50,
            either of `keras.applications.ResNet50`, or the `.h5` that Keras publishes; or `imagenet` for its weights of
            ImageNet, which Keras downloads.
        **options: what `architectures.build` takes besides; only for files `.weights.h5`.

    Returns:
        `keras.Model`, all of it trainable.

    Raises:
        ValueError: there is no such source, or it is of another network.
    """
    if source == "imagenet":
        if name != "resnet-50":
            raise ValueError(
                f"keras.applications has weights of resnet-50 only. Received: model={name!r}. "
                "Choose --model=resnet-50, or give a file .keras or .weights.h5."
            )
        return from_keras_applications(keras.applications.ResNet50(weights="imagenet"))
    path = pathlib.Path(source)
    if path.is_dir():
        path /= "model.keras"
    if not path.is_file():
        raise ValueError(f"Expected the folder of a finished run, a file, or 'imagenet'. Received: {source!r}.")
    if path.suffix == ".h5":
        return _with_weights(name, num_classes, path, options)
    network = architectures.build(name, num_classes)
    trained = keras.models.load_model(path, compile=False)
    trained = getattr(trained, "base_model", trained)
    if name == "resnet-50" and _is_keras_applications(trained):
        trained = from_keras_applications(trained)
    expected, found = ([weight.shape for weight in model.get_weights()] for model in (network, trained))
    if expected != found or trained.output_shape != network.output_shape:
        raise ValueError(
            f"{path} does not hold {name!r} with {num_classes} classes: it has {len(found)} weights and output "
            f"{trained.output_shape}, not {len(expected)} and {network.output_shape}, or weights of other shapes."
        )
    # Not its weights in our network: options that have no weights, such as pooling, are then kept.
    for layer in trained._flatten_layers():
        layer.trainable = True
    return trained


def _with_weights(name: str, num_classes: int, path: pathlib.Path, options: dict[str, Any]) -> keras.Model:
    """The network with the weights of a file."""
    networks = [architectures.build(name, num_classes, **options)]
    if name == "resnet-50":
        networks.append(keras.applications.ResNet50(weights=None, classes=num_classes))
    for network in networks:
        try:
            with warnings.catch_warnings():
                # Of parts that only files of newer Keras versions have; layers that are missing are an error.
                warnings.filterwarnings("ignore", "Skipping nested container")
                network.load_weights(path)
        # Keras has no error of its own for files of other networks.
        except (ValueError, KeyError):
            continue
        return from_keras_applications(network) if _is_keras_applications(network) else network
    raise ValueError(f"{path} does not hold the weights of {name!r} with {num_classes} classes.")


def _is_keras_applications(network: keras.Model) -> bool:
    return any(layer.name == "conv1_conv" for layer in network.layers)


def from_keras_applications(trained: keras.Model) -> keras.Model:
    """Our ResNet-50 with the weights of `keras.applications.ResNet50`.

    Theirs has its stride in the first convolution of a bottleneck; biases before normalisations, whose
    means take them over; another epsilon, which the variances take over; and pixels of another
    scale and order, which the first kernel takes over. Both compute the same, up to
    rounding, where the means subtracted from the pixels are the same.

    Args:
        trained: `keras.applications.ResNet50`, with its top; its softmax is dropped.

    Returns:
        `keras.Model`, images in [0, 1] less the mean, red first, to logits.
    """
    dense = trained.layers[-1]
    network = architectures.build("resnet-50", dense.units, input_shape=trained.input_shape[1:], stride_in_first=True)
    for index, (ours, theirs) in enumerate(zip(_normalised(network), _normalised(trained), strict=True)):
        (kernel, bias), norm = (layer.get_weights() for layer in theirs)
        gamma, beta, mean, variance = norm
        if not index:
            kernel = _SCALE * kernel[:, :, _CHANNELS]
        ours[0].set_weights([kernel])
        ours[1].set_weights([gamma, beta, mean - bias, variance + np.float32(theirs[1].epsilon - ours[1].epsilon)])
    network.layers[-1].set_weights(dense.get_weights())
    return network


def _normalised(model: keras.Model) -> list[tuple[Any, Any]]:
    """Each convolution with its normalisation, in the order of the blocks, a shortcut's last."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return sorted(
        ((norm.input._keras_history.operation, norm) for norm in norms), key=lambda pair: _order(pair[0].name)
    )


def _order(name: str) -> list[int]:
    """By the numbers in a name: ours are conv2d_1, conv2d_2 ..., theirs conv2_block1_1_conv, with 0 for a shortcut."""
    return [int(number) or 9 for number in re.findall(r"\d+", name)]
