"""Checks of values that are known only while a step runs.

Data and logits pass through compiled functions, where Python cannot raise. A
`Check` says what must hold; `enforce` raises at once in eager mode and puts an
assertion into a graph; `clear_errors` turns a failed assertion back into a
`ValueError`. XLA drops assertions: there `first_failure` gives a code that the
caller reads from outside.
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
    """Something that must hold for the values of a batch.

    Attributes:
        ok: scalar boolean tensor.
        message: what is wrong where it does not hold, and how to mend it, in whole sentences.
        values: tensors to show after the message, where values can be shown.
        got: the words between message and values.
    """

    ok: Tensor
    message: str
    values: tuple[Tensor, ...] = ()
    got: str = "Got"

    @property
    def before_values(self) -> str:
        """What to say before the values; the message alone if there are none."""
        return f"{self.message} {self.got}" if self.values else self.message


def enforce(checks: Sequence[Check]) -> list[tf.Operation]:
    """Raise a ValueError for the first check that fails, at once or when the graph runs.

    In a graph it returns the assertions, for control dependencies. Under XLA, which cannot assert, there are none.
    """
    if in_xla():
        return []
    if tf.executing_eagerly():
        for check in checks:
            if not check.ok:
                raise ValueError(_sentence(check.before_values, " ".join(str(v.numpy()) for v in check.values)))
        return []
    return [tf.debugging.Assert(check.ok, [_MARK + check.before_values, *check.values]) for check in checks]


def first_failure(checks: Sequence[Check]) -> Tensor:
    """The number of the first check that fails, counted from 1, or 0: a scalar int32 tensor.

    Example:
    >>> int(keras_amm.execution.checks.first_failure([Check(tf.constant(False), "got")]))
    1
    """
    code = tf.constant(0)
    for number, check in reversed(list(enumerate(checks, start=1))):
        code = tf.where(check.ok, code, number)
    return code


@contextlib.contextmanager
def clear_errors(where: Callable[[], str] = str) -> Iterator[None]:
    """Raise a failed assertion of `enforce` as a `ValueError` of its message, after the words that `where` gives."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        message = _message(str(error))
        if message is None:
            raise
        raise ValueError(where() + message) from None


def _message(error: str) -> str | None:
    """The message of a check within that of a TensorFlow error; None where there is none."""
    if found := _FAILED.search(error):
        # TensorFlow prints strings as C would: quotes with a backslash, bytes of UTF-8 as octal numbers.
        message = found["message"].encode().decode("unicode_escape").encode("latin-1").decode()
        return _sentence(message, " ".join(re.findall(r"\[([^\]]*)\]", found["values"])))
    if found := _LABELS.search(error):
        return f"Labels must lie in 0..{int(found['classes']) - 1}, the classifier's outputs. Got {found['label']}."
    return None


def _sentence(message: str, values: str) -> str:
    return f"{message} {values}." if values else message
