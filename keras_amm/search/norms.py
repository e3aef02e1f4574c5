"""The norms in which a perturbation may be short, l2 and l-infinity, and the shortest step in each.

The nearest point where a linear function with gradient w has risen by `rise` is `rise / ||w||_*^2 * u` away, at the
distance `|rise| / ||w||_*`. `||w||_*` is the dual norm: l2's own, and the sum of the absolute values for l-infinity. u
is the dual map of w, a vector of norm `||w||_*` with `<w, u> = ||w||_*^2`: w itself for l2, and `||w||_* sign(w)` for
l-infinity.
"""

import abc
from collections.abc import Mapping
from types import MappingProxyType

import tensorflow as tf

from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import divide_by_squared_norm, expand_to, inner, squared_norm, unit
from keras_amm.typing import Tensor

# Values of a perturbation that are equal but for rounding.
_EQUAL = 1.0 - 1e-5


class Norm(abc.ABC):
    """A norm of vectors, which are tensors as in `geometry`."""

    @abc.abstractmethod
    def of(self, v: Tensor) -> Tensor:
        """The norms of vectors [B, ...], one for each sample."""

    @abc.abstractmethod
    def dual_squared(self, w: Tensor, lead: int = 1) -> Tensor:
        """The squared dual norms of vectors, one for each sample."""

    @abc.abstractmethod
    def dual_map(self, w: Tensor, lead: int = 1) -> Tensor:
        """The vectors u of the module's docstring."""

    @abc.abstractmethod
    def gradient(self, v: Tensor) -> Tensor:
        """The gradient of the norm at vectors [B, ...], of their shape; zero where they are."""

    @abc.abstractmethod
    def within(self, v: Tensor, radius: Tensor) -> Tensor:
        """The nearest vectors [B, ...] whose norms are at most the radius [B]."""

    @abc.abstractmethod
    def change_of_step(self, v: Tensor, w: Tensor, u: Tensor, share: Tensor) -> Tensor:
        """`||w||_*^2` times the gradient, in w, of `<v, u / ||w||_*^2>`, with u of w and `share = <v, u> / ||w||_*^2`.

        It is how a step changes with the gradient that it follows; all vectors have the shape of v.
        """

    def step(self, w: Tensor, rise: Tensor) -> Tensor:
        """The shortest steps [B, ...] along which linear functions of gradients w [B, ...] rise by so much, [B]."""
        return expand_to(divide_by_squared_norm(rise, self.dual_squared(w)), w) * self.dual_map(w)

    def unit(self, v: Tensor) -> Tensor:
        """v / ||v||, and zero where v is zero."""
        return expand_to(tf.math.divide_no_nan(1.0, self.of(v)), v) * v


class _L2(Norm):
    def of(self, v: Tensor) -> Tensor:
        return tf.sqrt(squared_norm(v))

    def dual_squared(self, w: Tensor, lead: int = 1) -> Tensor:
        return squared_norm(w, lead)

    def dual_map(self, w: Tensor, lead: int = 1) -> Tensor:
        del lead
        return w

    def gradient(self, v: Tensor) -> Tensor:
        return unit(v)

    def within(self, v: Tensor, radius: Tensor) -> Tensor:
        return v * expand_to(tf.minimum(1.0, tf.math.divide_no_nan(radius, self.of(v))), v)

    def change_of_step(self, v: Tensor, w: Tensor, u: Tensor, share: Tensor) -> Tensor:
        return v - 2.0 * share * w


class _LInfinity(Norm):
    def of(self, v: Tensor) -> Tensor:
        return tf.reduce_max(tf.abs(v), axis=list(range(1, v.shape.rank)))

    def dual_squared(self, w: Tensor, lead: int = 1) -> Tensor:
        return tf.square(_sum_of_sizes(w, lead))

    def dual_map(self, w: Tensor, lead: int = 1) -> Tensor:
        return expand_to(_sum_of_sizes(w, lead), w) * tf.sign(w)

    def gradient(self, v: Tensor) -> Tensor:
        # The largest values are equal after one step. They stay so, since each step adds the same to all.
        size = tf.abs(v)
        largest = tf.cast((size >= _EQUAL * expand_to(self.of(v), v)) & (size > 0.0), v.dtype)
        return expand_to(tf.math.divide_no_nan(1.0, inner(largest, largest)), v) * largest * tf.sign(v)

    def within(self, v: Tensor, radius: Tensor) -> Tensor:
        radius = expand_to(radius, v)
        return tf.clip_by_value(v, -radius, radius)

    def change_of_step(self, v: Tensor, w: Tensor, u: Tensor, share: Tensor) -> Tensor:
        return -share * u


def _sum_of_sizes(w: Tensor, lead: int) -> Tensor:
    return tf.reduce_sum(tf.abs(w), axis=list(range(lead, w.shape.rank)))


# By the names of an attack's `norm`.
NORMS: Mapping[str, Norm] = MappingProxyType({"l2": _L2(), "linf": _LInfinity()})


def require_norm(norm: str) -> None:
    """Refuse, by a ValueError, all but the name of a norm."""
    if norm not in NORMS:
        raise ValueError(f"`norm` must be one of {[*NORMS]}. Received: norm={norm!r}.")


def norm_for(classifier: Classifier) -> Norm:
    """The norm of perturbations of the classifier's images."""
    return NORMS[classifier.norm]
