"""Measuring margins over whole data sets: batches, samples, reports.

Serves `keras_amm.evaluate_margins`, `keras_amm.callbacks.MarginLogger` and the command line.
"""
