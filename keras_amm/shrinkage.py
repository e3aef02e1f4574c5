"""Shrinkage functions R(t) of the margin penalty (Section 3.3.2 of the paper).

Each increases with `t`, the signed and scaled margin: `t = -c * ||delta||` for a correctly classified sample and
`t = d * ||delta||` for a misclassified one (Equation 6). So among correct samples, a small margin costs most.
"""

import dataclasses
from collections.abc import Callable

import keras
from keras import ops

from keras_amm import arguments
from keras_amm.typing import Tensor, TensorLike

__all__ = ["exp", "get", "hinge", "inv", "lin"]

Shrinkage = Callable[[Tensor], Tensor]


def lin(t: TensorLike) -> Tensor:
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


def exp(t: TensorLike) -> Tensor:
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


def inv(t: TensorLike) -> Tensor:
    """The inverse, R(t) = 1 / (1 - t), for t < 1.

    From `t = 1 - 1e-6` on the function is constant, so that it stays finite.
    `MarginRegularizer` caps `t` before, at `1 - strength / max_penalty`.

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


def hinge(t: TensorLike, threshold: TensorLike = 0.0) -> Tensor:
    """The hinge, R(t) = max(0, threshold + t): margins above it cost nothing.

    Args:
        t: float tensor of any shape: `-||delta||` for correctly classified
            and `||delta||` for misclassified samples (c and d do not scale it).
        threshold: float, the margin that is wanted. `MarginRegularizer`
            leaves it at 0 and adds the wanted margin, its `c`, to `t`.

    Returns:
        A tensor like `t`.

    Example:
    >>> float(keras_amm.shrinkage.hinge(-0.5, threshold=2.0))
    1.5

    Reference: Elsayed et al., "Large margin deep networks for classification"
    (2018), with which Section 4.3.1 compares.
    """
    return ops.maximum(threshold + ops.convert_to_tensor(t), 0.0)


def _scaled(norm: Tensor, correct: Tensor, c: float, d: float) -> Tensor:
    """Equation 6: margins scaled by c, negative where correct, or by d, [B]."""
    return ops.where(correct, -c * norm, d * norm)


def _shortfall(norm: Tensor, correct: Tensor, c: float, d: float) -> Tensor:
    """The wanted margin c minus the signed margin (negative where the sample is misclassified), [B]."""
    return c + ops.where(correct, -norm, norm)


# The two caps below are those of the authors' code. `penalty_per_sample` also caps the penalty itself, but for exp that
# comes too late: exp of a large norm is infinite, and the gradient would be 0 * infinity, which is NaN.


def _cap_of_exp(strength: Tensor, d: float, max_penalty: float) -> Tensor:
    """The norm at which a misclassified sample's `strength * exp(d * norm)` is `max_penalty + strength`; a scalar."""
    return ops.log(max_penalty / ops.maximum(strength, keras.config.epsilon()) + 1.0) / d


def _cap_of_inv(strength: Tensor, d: float, max_penalty: float) -> Tensor:
    """The norm at which a misclassified sample's `strength * inv(d * norm)` is `max_penalty`; a scalar.

    It is negative if `strength > max_penalty`: then every misclassified sample costs `max_penalty`, without gradient.
    """
    return (1.0 - strength / max_penalty) / d


@dataclasses.dataclass(frozen=True)
class ShrinkageEntry:
    """A shrinkage and what the penalty must know about it; a user's callable takes the defaults.

    Attributes:
        identifier: the name, or a user's callable itself.
        function: R(t).
        argument: `(norm [B], correct [B], c, d) -> t [B]`.
        is_capped: whether a sample's `strength * R` is at most `max_penalty`.
        wrong_norm_cap: `(strength, d, max_penalty) -> scalar`, the norm above which misclassified samples cost no
            more; None if there is no such norm.
    """

    identifier: str | Shrinkage
    function: Shrinkage
    argument: Callable[[Tensor, Tensor, float, float], Tensor] = _scaled
    is_capped: bool = True
    wrong_norm_cap: Callable[[Tensor, float, float], Tensor] | None = None

    def penalty_per_sample(
        self, norm: Tensor, correct: Tensor, strength: Tensor, *, c: float, d: float, max_penalty: float
    ) -> Tensor:
        """`strength * R` of each sample, caps included, [B]."""
        if self.wrong_norm_cap is not None:
            cap = self.wrong_norm_cap(strength, d, max_penalty)
            norm = ops.where(correct, norm, ops.minimum(norm, cap))
        each = strength * self.function(self.argument(norm, correct, c, d))
        return ops.minimum(each, max_penalty) if self.is_capped else each


# A new shrinkage needs a function above and an entry here.
ENTRIES = (
    ShrinkageEntry("lin", lin, is_capped=False),
    ShrinkageEntry("exp", exp, wrong_norm_cap=_cap_of_exp),
    ShrinkageEntry("inv", inv, wrong_norm_cap=_cap_of_inv),
    ShrinkageEntry("hinge", hinge, argument=_shortfall, is_capped=False),
)


def find_entry(identifier: str | Shrinkage) -> ShrinkageEntry:
    """The entry of a name, of a built-in function, or of a user's callable."""
    return arguments.find_entry(
        "shrinkage",
        identifier,
        ENTRIES,
        lambda function: ShrinkageEntry(function, function),
        "the signed, scaled margin",
    )


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
    return find_entry(identifier).function
