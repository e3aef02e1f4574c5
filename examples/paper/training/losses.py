"""The losses L of Equation 7 that a network can be trained with, beside the margin penalty."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import keras

from ..methods.dlsvm import SquaredHinge

LOSSES: Mapping[str, Callable[[], keras.losses.Loss]] = MappingProxyType(
    {
        "cross-entropy": functools.partial(keras.losses.SparseCategoricalCrossentropy, from_logits=True),
        # The paper tried "hinge loss" (Section 3.3.4) and does not say which: this one is DLSVM's.
        "squared-hinge": SquaredHinge,
    }
)
