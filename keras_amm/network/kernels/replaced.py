"""The one way in which functions of TensorFlow and properties of Keras are replaced while a network is traced.

Both belong to the whole process, and other threads may be using them. So what is put in their place for the
time being decides at every use: the replacement for the thread that asked for it, and the original for
everyone else. Once nobody asks for it any more, the original itself is back.
"""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias

_Place: TypeAlias = tuple[Any, str]


class _Installed(NamedTuple):
    """What stands in a place while `users` blocks replace it."""

    original: Any
    dispatcher: Any
    users: int


_installed: dict[_Place, _Installed] = {}
_lock = threading.Lock()
# A variable of this kind has a value of its own in each thread.
_replacements: ContextVar[dict[_Place, Callable[..., Any]]] = ContextVar("keras_amm_replacements")


@contextlib.contextmanager
def replaced(owner: Any, **replacements: Callable[..., Any]) -> Iterator[None]:
    """Replace functions of a module, or properties of a class, for what this thread does within the block.

    Blocks may be nested, and the innermost one counts. A replacement that needs the original keeps a reference
    of its own: within the block, the name stands for the replacement.

    Args:
        owner: a module or a class.
        **replacements: the function in place of each name; of a property, it is given the object.

    Example:
    >>> from keras_amm.network.kernels.replaced import replaced
    >>> with replaced(tf.nn, relu=lambda x: 7.0):
    ...     tf.nn.relu(-1.0)
    7.0
    >>> float(tf.nn.relu(-1.0))
    0.0
    """
    places = {(owner, name): function for name, function in replacements.items()}
    _install(places)
    try:
        token = _replacements.set({**_replacements.get({}), **places})
        try:
            yield
        finally:
            _replacements.reset(token)
    finally:
        _uninstall(places)


def _install(places: dict[_Place, Callable[..., Any]]) -> None:
    with _lock:
        for place in places:
            if place in _installed:
                _installed[place] = _installed[place]._replace(users=_installed[place].users + 1)
            else:
                original = inspect.getattr_static(*place)
                _installed[place] = _Installed(original, _dispatcher(place, original), users=1)
                setattr(*place, _installed[place].dispatcher)


def _uninstall(places: dict[_Place, Callable[..., Any]]) -> None:
    with _lock:
        for place in places:
            original, dispatcher, users = _installed.pop(place)
            if users > 1:
                _installed[place] = _Installed(original, dispatcher, users - 1)
            elif inspect.getattr_static(*place) is dispatcher:
                # Otherwise someone else has replaced it since, and will put the dispatcher back, which does no harm.
                setattr(*place, original)


def _dispatcher(place: _Place, original: Any) -> Any:
    function: Any = original.fget if isinstance(original, property) else original

    @functools.wraps(function)
    def dispatch(*args: Any, **kwargs: Any) -> Any:
        return _replacements.get({}).get(place, function)(*args, **kwargs)

    return original.getter(dispatch) if isinstance(original, property) else dispatch
