"""What watches margins while `fit` trains, for `keras_amm.callbacks`.

`tensorboard` writes summaries; the other modules know the callbacks and steps of `fit`.
"""
