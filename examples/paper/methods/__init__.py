"""The methods that the paper compares with, by name: each takes a network and says how it is trained.

Where their papers name hyperparameters, these are the defaults; a method's docstring says which are not theirs. All are
run by the paper's protocol otherwise (Section 4.2: SGD, its learning rates and epochs), not by that of their papers.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .bayes_by_backprop import BayesByBackprop
from .contractive import ContractiveRectifier
from .deep_defense import DeepDefense, RelativeDeepDefense
from .disturb_label import DisturbLabel
from .dlsvm import DeepLinearSVM
from .dropconnect import DropConnect
from .elsayed import ElsayedLargeMargin
from .em_softmax import EnsembleSoftMargin
from .jacobian import JacobianRegularization
from .l_softmax import LargeMarginSoftmax
from .method import Method
from .mma import MaxMarginAdversarial

__all__ = ["METHODS", "Method", "build"]

METHODS: Mapping[str, type[Method]] = MappingProxyType(
    {
        "dlsvm": DeepLinearSVM,
        "disturb-label": DisturbLabel,
        "dropconnect": DropConnect,
        "crn": ContractiveRectifier,
        "l-softmax": LargeMarginSoftmax,
        "em-softmax": EnsembleSoftMargin,
        "bayes-by-backprop": BayesByBackprop,
        "jacobian": JacobianRegularization,
        "elsayed": ElsayedLargeMargin,
        "mma": MaxMarginAdversarial,
        "deep-defense": DeepDefense,
        "deep-defense-relative": RelativeDeepDefense,
    }
)


def build(name: str, given: Sequence[str] = ()) -> Method:
    """A method with its default hyperparameters, or others.

    Args:
        name: str, one of `METHODS`.
        given: strings such as "rate=0.2", hyperparameters that differ from their defaults.

    Returns:
        `Method`.

    Raises:
        ValueError: the method has no such hyperparameter, or it is no number.

    Example:
    >>> build("disturb-label", ["rate=0.2"])
    DisturbLabel(rate=0.2)
    """
    kinds = {field.name: type(field.default) for field in dataclasses.fields(METHODS[name])}
    changes = {}
    for text in given:
        key, _, value = text.partition("=")
        if key not in kinds:
            raise ValueError(f"Expected settings of {name}: {', '.join(kinds)}. Received: {text!r}.")
        try:
            number = float(value)
        except ValueError as error:
            raise ValueError(f"Expected a number after {key}=. Received: {text!r}.") from error
        changes[key] = kinds[key](number)
        if changes[key] != number:
            expected = "0 or 1" if kinds[key] is bool else "a whole number"
            raise ValueError(f"Expected {expected} after {key}=. Received: {text!r}.")
    return METHODS[name](**changes)
