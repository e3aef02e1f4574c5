"""How code runs: eagerly, in a graph, under XLA, on several replicas, inside Keras's `fit`.

Nothing here computes margins.
"""
