"""Updates on condition: a fault in a batch is reported and never reaches the weights."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_amm.execution.checks import Check, enforce, first_failure
from keras_amm.execution.xla import in_xla
from keras_amm.typing import Tensor, Variable


class GuardedUpdate:
    """Applies gradients only where all checks hold, also under XLA, which cannot raise.

    Under XLA, the first fault and its step are kept in a variable, which the program outside reads and raises. Until
    it does, no further update is applied.

    Example:
    >>> weight, guard = keras.Variable([1.0]), keras_amm.execution.guarded_update.GuardedUpdate()
    >>> guard.apply(keras.optimizers.SGD(1.0), [tf.constant([0.5])], [weight], [], before=[])
    >>> weight.numpy()
    array([0.5], dtype=float32)
    """

    def __init__(self) -> None:
        self._fault: Variable = None
        self._messages: list[str] = []

    def prepare(self) -> None:
        """Make the variable that XLA needs before it traces a step."""
        if self._fault is None:
            self._fault = tf.Variable([0, 0], trainable=False, dtype=tf.int64)

    def apply(
        self,
        optimizer: keras.optimizers.Optimizer,
        gradients: list[Tensor | None],
        weights: list[Variable],
        checks: list[Check],
        *,
        before: list[tuple[Variable, Tensor]],
        after: Tensor | None = None,
        also: Callable[[], None] | None = None,
    ) -> None:
        """Update the weights if all checks hold.

        Args:
            optimizer: it applies one gradient, or None, to each weight.
            gradients: one for each weight.
            weights: the variables to update.
            checks: what must hold.
            before: what `values_before` gave, to be put back if a check fails.
            after: a tensor that must have been computed before, such as a loss that refuses its labels.
            also: what else changes variables if all checks hold.

        Raises:
            ValueError: in eager mode, a check fails.
        """
        if not in_xla():
            with tf.control_dependencies([*enforce(checks), *([] if after is None else [after])]):
                optimizer.apply([g if g is None else tf.identity(g) for g in gradients], weights)
                if also is not None:
                    also()
            return
        if not optimizer.built:
            optimizer.build(weights)
        self._messages = [check.message for check in checks]
        now = tf.stack([tf.cast(first_failure(checks), tf.int64), tf.cast(optimizer.iterations, tf.int64) + 1])
        fault = tf.where(self._fault[0] > 0, self._fault, now)
        self._fault.assign(fault)

        def update() -> int:
            optimizer.apply(gradients, weights)
            if also is not None:
                also()
            return 0

        def undo() -> int:
            for variable, value in before:
                variable.assign(value)
            return 0

        tf.cond(fault[0] > 0, undo, update)

    def raise_fault(self) -> None:
        """Raise what a step under XLA kept, if anything.

        Raises:
            ValueError: a check failed since the last call.
        """
        if self._fault is None:
            return
        code, step = (int(value) for value in self._fault.numpy())
        if code:
            self._fault.assign([0, 0])
            hint = "Without jit_compile the values that were got are shown."
            raise ValueError(f"{in_failed_step(step)}{self._messages[code - 1]} {hint}")


def values_before(variables: list[Variable]) -> list[tuple[Variable, Tensor]]:
    """Variables with their values before a step, to be put back under XLA if it fails; none elsewhere.

    Such variables are the statistics of a BatchNormalization.
    """
    return [(variable, tf.identity(variable)) for variable in variables] if in_xla() else []


def in_failed_step(step: int) -> str:
    """The words that name the update, counted from 1, before what went wrong in it.

    Example:
    >>> keras_amm.execution.guarded_update.in_failed_step(3)
    'In training step 3, whose update was not applied: '
    """
    return f"In training step {step}, whose update was not applied: "
