"""The program `keras-amm`, as it is installed.

It stands beside the package because importing anything of `keras_amm` loads
TensorFlow, which takes seconds, in which Ctrl-C must end the program as later.
"""

import os
import signal
from typing import Any

_STOPPED = 130


def run() -> None:
    """Run the program with the arguments of this process, and exit."""
    interactive = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interactive:
        signal.signal(signal.SIGINT, _stop)
    from keras_amm import cli

    if interactive:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.run()


def _stop(*_: Any) -> None:
    # An exception might be caught by a library that is being imported.
    os.write(2, b"keras-amm: stopped.\n")
    os._exit(_STOPPED)
