"""Measuring margins over whole data sets: batches of images, a measurer that they are added to, and its report.

Serves `keras_amm.evaluate_margins`, `keras_amm.callbacks.MarginLogger` and the command line.
"""
