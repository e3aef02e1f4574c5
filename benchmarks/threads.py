"""The flag of how many threads TensorFlow has: figures are compared by one."""

import tensorflow as tf
from absl import flags

# The flag belongs to the program that defines it, whose --help shows it.
flags.disclaim_key_flags()


def define_flag() -> None:
    """Define `--threads`."""
    flags.DEFINE_integer("threads", 1, "Threads of TensorFlow; 0 for as many as there are cores.", lower_bound=0)


def set_as_told() -> None:
    """Give TensorFlow the threads of the flag. Only before TensorFlow starts."""
    number = flags.FLAGS.threads
    tf.config.threading.set_intra_op_parallelism_threads(number)
    tf.config.threading.set_inter_op_parallelism_threads(number)
