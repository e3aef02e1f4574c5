"""The network that is attacked, as a function from images to logits.

`classifier` runs it in inference mode and in float32; the other modules say what it
accepts, what its labels mean and what its layers are.
"""
