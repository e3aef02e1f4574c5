"""What watches margins while `fit` trains, for `keras_amm.callbacks`.

`tensorboard` writes summaries; `fit` knows the callbacks, the steps and the validation data of the training.
"""
