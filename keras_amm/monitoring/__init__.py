"""Parts of `keras_amm.callbacks`, which measures margins while `fit` trains.

`logged` names the values in the logs; `tensorboard` writes summaries; `fit` finds the callbacks, the steps and the
validation data of the training. The metrics that `fit` itself shows, such as `margin` and `attack_success`, are in
`keras_amm.gradient.metrics`.
"""
