"""Checks of values that are known only while a step runs.

Data and logits pass through compiled functions, where Python cannot raise. A
`Check` says what must hold. `enforce` raises at once in eager mode and puts an
assertion into a graph; `as_value_errors` turns a failed assertion into a
`ValueError`. XLA drops assertions: there `first_failure` gives the number of the
failed check, which the caller reads when the compiled function has returned.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution.xla import in_xla
from keras_amm.typing import Tensor

_MARK = "keras_amm: "
_FAILED = re.compile(r"assertion failed: \[" + _MARK + r"(?P<message>[^\]]*)\](?P<values>(?: \[[^\]]*\])*)", re.DOTALL)
# TensorFlow's own check of labels, in the cross-entropy, may be the first to fail.
_LABELS = re.compile(r"label value of (?P<label>\S+) which is outside the valid range of \[0, (?P<classes>\d+)\)")


class Check(NamedTuple):
    """A condition on the values of a batch, and the error if it does not hold.

    The error reads "`message` `got` `values`.", or `message` alone where values cannot be shown, as under XLA.

    Attributes:
        ok: scalar boolean tensor, whether the condition holds.
        message: whole sentences: what is expected, or how to mend the fault.
        values: tensors, the offending values.
        got: how the sentence that ends in the values begins.
    """

    ok: Tensor
    message: str
    values: tuple[Tensor, ...] = ()
    got: str = "Got"

    @property
    def text_before_values(self) -> str:
        """The error without its values."""
        return f"{self.message} {self.got}" if self.values else self.message


def enforce(checks: Sequence[Check]) -> list[tf.Operation]:
    """Raise a ValueError for the first check that fails: at once, or in a graph when it runs.

    In a graph it returns the assertions, for `tf.control_dependencies`; in eager mode, and under XLA, which cannot
    assert, an empty list.
    """
    if in_xla():
        return []
    if tf.executing_eagerly():
        for check in checks:
            if not check.ok:
                raise ValueError(_sentence(check.text_before_values, " ".join(str(v.numpy()) for v in check.values)))
        return []
    return [tf.debugging.Assert(check.ok, [_MARK + check.text_before_values, *check.values]) for check in checks]


def first_failure(checks: Sequence[Check]) -> Tensor:
    """The number of the first check that fails, counted from 1, or 0 if none fails: a scalar int32 tensor.

    Example:
    >>> passed, failed = Check(tf.constant(True), "Fine."), Check(tf.constant(False), "Not fine.")
    >>> [int(keras_amm.execution.checks.first_failure(c)) for c in ([passed, failed, failed], [passed])]
    [2, 0]
    """
    code = tf.constant(0)
    for number, check in reversed(list(enumerate(checks, start=1))):
        code = tf.where(check.ok, code, number)
    return code


@contextlib.contextmanager
def as_value_errors(prefix: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Raise a failed assertion of `enforce` as a `ValueError` with its message, preceded by `prefix()`."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        message = _message(str(error))
        if message is None:
            raise
        raise ValueError(prefix() + message) from None


def _message(error: str) -> str | None:
    """The message of a check, found in the text of a TensorFlow error; None if it is an error of another kind."""
    if found := _FAILED.search(error):
        # TensorFlow prints strings as C would: quotes with a backslash, bytes of UTF-8 as octal numbers.
        message = found["message"].encode().decode("unicode_escape").encode("latin-1").decode()
        return _sentence(message, " ".join(re.findall(r"\[([^\]]*)\]", found["values"])))
    if found := _LABELS.search(error):
        return f"Labels must lie in 0..{int(found['classes']) - 1}, the classifier's outputs. Got {found['label']}."
    return None


def _sentence(message: str, values: str) -> str:
    return f"{message} {values}." if values else message
