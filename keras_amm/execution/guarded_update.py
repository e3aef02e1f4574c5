"""Conditional updates: a fault in a batch is reported and never reaches the weights."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_amm.execution.checks import Check, enforce, first_failure
from keras_amm.execution.optimizer_steps import steps_per_update
from keras_amm.execution.xla import in_xla
from keras_amm.typing import Tensor, Variable


class GuardedUpdate:
    """Applies gradients only where all checks hold, also under XLA, which cannot raise.

    Under XLA, a variable keeps the number of the first failed check and its step, until `raise_fault` is called outside
    of the compiled step. Until then, no further update is applied.

    Example:
    >>> weight, guard = keras.Variable([1.0]), keras_amm.execution.guarded_update.GuardedUpdate()
    >>> guard.apply(keras.optimizers.SGD(1.0), [tf.constant([0.5])], [weight], [], saved_values=[])
    >>> weight.numpy()
    array([0.5], dtype=float32)
    """

    def __init__(self) -> None:
        self._fault: Variable = None
        self._messages: list[str] = []
        self._steps_per_update = 1

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
        saved_values: list[tuple[Variable, Tensor]],
        wait_for: Tensor | None = None,
        also: Callable[[], None] | None = None,
    ) -> None:
        """Update the weights if all checks hold.

        Args:
            optimizer: it applies one gradient, or None, to each weight.
            gradients: one for each weight.
            weights: the variables to update.
            checks: what must hold.
            saved_values: what `save_values` gave before the step, to restore if a check fails.
            wait_for: a tensor to compute before the update, such as a loss that refuses wrong labels.
            also: another update of variables, done if all checks hold.

        Raises:
            ValueError: in eager mode, a check fails.
        """
        self._steps_per_update = steps_per_update(optimizer)
        if in_xla():
            if not optimizer.built:
                # Now, so that its variables can be saved.
                optimizer.build(weights)
            is_faulty = self._keep_first_fault(checks, tf.cast(optimizer.iterations, tf.int64) + 1)
            saved_values = [*saved_values, *save_values(_changed_by(optimizer, weights))]
            # In no branch, but put back: in the steps of `fit`, XLA computes what only a branch uses within it, and
            # on a CPU it has no fast code for the gradients of convolutions there.
            _apply(optimizer, gradients, weights)
            _put_back(saved_values, is_faulty)
            if also is not None:
                # It changes variables that are not saved.
                tf.cond(is_faulty, lambda: 0, lambda: _done(also))
            return
        with tf.control_dependencies([*enforce(checks), *([] if wait_for is None else [wait_for])]):
            # Copies made here, so that they are computed only if the checks hold.
            _apply(optimizer, [g if g is None else tf.identity(g) for g in gradients], weights)
            if also is not None:
                also()

    def _keep_first_fault(self, checks: list[Check], step: Tensor) -> Tensor:
        """Note the first check that fails, unless an earlier step failed; returns whether any did, a scalar boolean."""
        self._messages = [check.message for check in checks]
        now = tf.stack([tf.cast(first_failure(checks), tf.int64), step])
        fault = tf.where(self._fault[0] > 0, self._fault, now)
        self._fault.assign(fault)
        return fault[0] > 0

    def raise_fault(self) -> None:
        """Raise the fault that a step under XLA kept, if there is one.

        Raises:
            ValueError: a check failed since the last call.
        """
        if self._fault is None:
            return
        code, step = (int(value) for value in self._fault.numpy())
        if code:
            self._fault.assign([0, 0])
            hint = "Train without jit_compile to see the offending values."
            raise ValueError(f"{in_failed_step(step, self._steps_per_update)}{self._messages[code - 1]} {hint}")


def _apply(optimizer: keras.optimizers.Optimizer, gradients: list[Tensor | None], weights: list[Variable]) -> None:
    """Update the weights by the method that Keras's training step calls, which an optimizer may override."""
    if weights:
        optimizer.apply_gradients(zip(gradients, weights, strict=True))


def save_values(variables: list[Variable]) -> list[tuple[Variable, Tensor]]:
    """Variables with their present values, which a failed step under XLA restores; an empty list elsewhere.

    Such variables are the statistics of a BatchNormalization, which change before the checks are known, and what an
    update changes.
    """
    return [(variable, tf.identity(variable)) for variable in variables] if in_xla() else []


def _changed_by(optimizer: keras.optimizers.Optimizer, weights: list[Variable]) -> list[Variable]:
    """The weights, and the variables of an optimizer and of others that it wraps, each once."""
    parts = tf.train.TrackableView(optimizer).descendants()
    own = [part for part in parts if isinstance(part, tf.Variable | keras.Variable)]
    return [*{id(variable): variable for variable in (*weights, *optimizer.variables, *own)}.values()]


def _put_back(saved_values: list[tuple[Variable, Tensor]], is_faulty: Tensor) -> None:
    for variable, value in saved_values:
        variable.assign(tf.where(is_faulty, value, tf.convert_to_tensor(variable)))


def _done(also: Callable[[], None]) -> int:
    also()
    return 0


def in_failed_step(step: int, per_update: int = 1) -> str:
    """The beginning of an error about a training step, or of several that make one update; both counted from 1.

    Example:
    >>> keras_amm.execution.guarded_update.in_failed_step(3)
    'In training step 3, whose update was not applied: '
    """
    if per_update > 1:
        return f"In one of the {per_update} training steps of update {step}, which was not applied: "
    return f"In training step {step}, whose update was not applied: "
