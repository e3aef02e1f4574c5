"""Contractive rectifier networks: hidden layers that bring no two points further apart (An et al., 2015)."""

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from .dlsvm import SquaredHinge
from .layers import head
from .method import Method

# Layers that bring no two points further apart, if their kernels are bounded.
_CONTRACTIONS = (
    keras.layers.InputLayer,
    keras.layers.Conv2D,
    keras.layers.Dense,
    keras.layers.Flatten,
    keras.layers.Dropout,
    keras.layers.ReLU,
    keras.layers.Activation,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
)
_ACTIVATIONS = (None, keras.activations.linear, keras.activations.relu)


@keras.saving.register_keras_serializable(package="keras_amm_examples")
class Contraction(keras.constraints.Constraint):
    """The nearest kernel of which no singular value exceeds a limit.

    Args:
        limit: float > 0. A kernel of a convolution counts as a matrix of patches by filters.
    """

    def __init__(self, limit: float = 1.0) -> None:
        self.limit = limit

    def __call__(self, w: Any) -> Any:
        """The kernel, [..., units], with its larger singular values lowered to the limit."""
        left, values, right = ops.svd(ops.reshape(w, (-1, w.shape[-1])), full_matrices=False)
        return ops.reshape(ops.matmul(left * ops.minimum(values, self.limit), right), w.shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation."""
        return {"limit": self.limit}


class Contract(keras.callbacks.Callback):
    """Applies constraints every few steps, which is cheaper than in each one, and after each epoch.

    Args:
        constraints: pairs of a variable and its `keras.constraints.Constraint`.
        interval: int, steps from one time to the next.
    """

    def __init__(self, constraints: list[tuple[Any, keras.constraints.Constraint]], interval: int) -> None:
        super().__init__()
        self.constraints, self.interval = constraints, interval

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin with contractions."""
        self._apply()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Apply them after every `interval` steps."""
        if (batch + 1) % self.interval == 0:
            self._apply()

    def on_test_begin(self, logs: Any = None) -> None:
        """Apply them to what is validated."""
        self._apply()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Apply them to what is measured and saved."""
        self._apply()

    def _apply(self) -> None:
        for variable, constraint in self.constraints:
            variable.assign(constraint(variable))


def contraction_limit(layer: keras.layers.Layer) -> float:
    """The largest singular value of a kernel with which its layer brings no two points further apart.

    A convolution sees each pixel in up to `ceil(k / s)` patches along each side, k the kernel's size and s the stride,
    so that its norm is at most the root of their number times that of the kernel's matrix.
    """
    if isinstance(layer, keras.layers.Dense):
        return 1.0
    sides = zip(layer.kernel_size, layer.strides, strict=True)
    return 1.0 / math.sqrt(math.prod(math.ceil(size / stride) for size, stride in sides))


def _expanding(layer: keras.layers.Layer) -> str | None:
    """What may bring two points further apart in a layer, though its kernel is bounded; None if nothing does."""
    name, activation = type(layer).__name__, getattr(layer, "activation", None)
    if not isinstance(layer, _CONTRACTIONS):
        return name
    if activation not in _ACTIVATIONS:
        return f"{name} of activation {keras.activations.serialize(activation)}"
    if isinstance(layer, keras.layers.MaxPooling2D) and tuple(layer.pool_size) != tuple(layer.strides):
        return f"{name} with overlap"
    return None


@dataclasses.dataclass(frozen=True)
class ContractiveRectifier(Method):
    """CRN: contractive hidden layers below a linear support vector machine.

    Two images that the output separates by a margin m are then at least m apart as images: the margin of the support
    vector machine bounds the one in the input space from below. ReLU and max-pooling without overlap are contractions.

    Reference: An et al., "Contractive rectifier networks for nonlinear maximum margin classification" (ICCV 2015):
    hidden layers `|W_l| <= 1` in the spectral norm, and a linear SVM in the output layer. That the constraint is kept
    by projection, here every few steps, and C are ours; the paper has algorithms of its own for it.

    Attributes:
        strength: C of the support vector machine.
        interval: steps from one projection to the next.
    """

    strength: float = 1.0
    interval: int = 10

    @property
    def loss(self) -> keras.losses.Loss:
        """The squared hinge."""
        return SquaredHinge(self.strength)

    def rebuild(self, network: keras.Model, num_train: int) -> keras.Model:
        """The network itself, if bounded kernels make a contraction of what goes before its head."""
        head(network)  # Refuses a network that does not end with one.
        others = set(filter(None, map(_expanding, network.layers)))
        if others:
            raise ValueError(
                "CRN needs a network of convolutions, dense layers, ReLUs and pooling without overlap alone, one after "
                f"the other. Received: one with {', '.join(sorted(others))}."
            )
        return super().rebuild(network, num_train)

    def callbacks(self, network: keras.Model) -> list[keras.callbacks.Callback]:
        """The projections of the hidden kernels."""
        last = head(network)
        hidden = [layer for layer in network.layers if hasattr(layer, "kernel") and layer is not last]
        return [Contract([(layer.kernel, Contraction(contraction_limit(layer))) for layer in hidden], self.interval)]
