"""Shrinkage functions R(t) of the margin penalty (Section 3.3.2 of the paper).

Each is increasing in `t`, the signed and scaled margin: `t = -c * ||delta||`
for a correctly classified sample and `t = d * ||delta||` for a misclassified
one (Equation 6). So a small margin of a correct sample costs most.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_amm import identifiers

Shrinkage = Callable[[Any], Any]


def lin(t: Any) -> Any:
    """The identity, R(t) = t: every sample counts alike.

    Args:
        t: float tensor of any shape, the signed and scaled margin.

    Returns:
        A tensor like `t`.

    Example:
    >>> float(keras_amm.shrinkage.lin(-2.0))
    -2.0

    Reference: Section 3.3.2 (a).
    """
    return ops.convert_to_tensor(t)


def exp(t: Any) -> Any:
    """The exponential, R(t) = exp(t): samples near the boundary count most.

    Args:
        t: float tensor of any shape, the signed and scaled margin.

    Returns:
        A tensor like `t`.

    Example:
    >>> float(keras_amm.shrinkage.exp(0.0))
    1.0

    Reference: Section 3.3.2 (b).
    """
    return ops.exp(ops.convert_to_tensor(t))


def inv(t: Any) -> Any:
    """The inverse, R(t) = 1 / (1 - t), for t < 1.

    From `t = 1 - 1e-6` on the function is constant, so that it stays finite;
    `MarginRegularizer` caps the margin of misclassified samples long before.

    Args:
        t: float tensor of any shape, the signed and scaled margin.

    Returns:
        A tensor like `t`.

    Example:
    >>> float(keras_amm.shrinkage.inv(-1.0))
    0.5

    Reference: Section 3.3.2 (c).
    """
    return 1.0 / ops.maximum(1.0 - ops.convert_to_tensor(t), 1e-6)


def hinge(t: Any, threshold: Any = 0.0) -> Any:
    """The hinge, R(t) = max(0, threshold + t): margins above it cost nothing.

    Args:
        t: float tensor of any shape: `-||delta||` for correctly classified
            and `||delta||` for misclassified samples (c and d do not scale it).
        threshold: float, the margin that is wanted; `MarginRegularizer`
            passes its `c`.

    Returns:
        A tensor like `t`.

    Example:
    >>> float(keras_amm.shrinkage.hinge(-0.5, threshold=2.0))
    1.5

    Reference: Elsayed et al., "Large margin deep networks for classification"
    (2018), with which Section 4.3.1 compares.
    """
    return ops.maximum(threshold + ops.convert_to_tensor(t), 0.0)


_BUILT_IN: dict[str, Shrinkage] = {
    "lin": lin,
    "exp": exp,
    "inv": inv,
    "hinge": hinge,
}


def name_of(identifier: str | Shrinkage) -> str | Shrinkage:
    """The name of one of this module's functions; all else as it is.

    Args:
        identifier: a name or a callable.

    Returns:
        The name, or `identifier` itself.

    Example:
    >>> keras_amm.shrinkage.name_of(keras_amm.shrinkage.exp)
    'exp'
    """
    return identifiers.name_of(identifier, _BUILT_IN)


def get(identifier: str | Shrinkage) -> Shrinkage:
    """Find a shrinkage function by name, or pass a callable through.

    Args:
        identifier: `"lin"`, `"exp"`, `"inv"`, `"hinge"`, or a callable that
            maps the signed and scaled margins `t` to R(t), element by element
            and differentiably.

    Returns:
        The function.

    Raises:
        ValueError: the name is not known.

    Example:
    >>> keras_amm.shrinkage.get("exp") is keras_amm.shrinkage.exp
    True
    """
    return identifiers.find(identifier, _BUILT_IN, "shrinkage", "the signed, scaled margin")


def wrong_norm_cap(shrinkage: Shrinkage, strength: Any, d: float, max_penalty: float) -> Any | None:
    """The largest norm of a misclassified sample that the penalty distinguishes.

    Args:
        shrinkage: one of the functions of this module, or a callable.
        strength: scalar float tensor or float, the weight of the penalty.
        d: float, the scale of misclassified samples.
        max_penalty: float, the cap of one sample's weighted penalty.

    Returns:
        A scalar: `log(max_penalty / strength + 1) / d` for `exp`,
        `(1 - strength / max_penalty) / d` for `inv`; `None` for all others.

    Reference: the numerical protection in the authors' code.
    """
    if shrinkage is exp:
        strength = ops.maximum(strength, keras.config.epsilon())
        return ops.log(max_penalty / strength + 1.0) / d
    if shrinkage is inv:
        return (1.0 - strength / max_penalty) / d
    return None
