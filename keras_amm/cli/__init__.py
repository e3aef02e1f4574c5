"""The command line `keras-amm`: margins, comparisons and attacks of saved models.

    keras-amm margins model.keras --dataset=mnist --mean=0.1307
    keras-amm compare reference.keras amm.keras --dataset=images.npz
    keras-amm attack model.keras digit.png --mean=0.1307

`keras-amm COMMAND --help` lists the options. Results go into the folder `--out`.
Options may be spelled with hyphens or underscores. Only files in the format
`.keras` are loaded, in Keras's safe mode: no code in them is run.

The pixels must come as the model has been trained on them. Integers, 0..255 as
in image files and TensorFlow Datasets, are divided by 255 unless the model has a
`Rescaling` or `Normalization` layer before its first weights; floating-point arrays
are taken as they are. `--scale` says otherwise, `--mean` is subtracted after it,
and then they are divided by `--deviation`. Margins are in the units of the pixels
before this division; what was done is printed.

Images are measured in a random order, the same every time, and reported in the
order of the data. Ctrl-C stops a measurement, and the results are then of the
images measured so far. The exit status is 0; 1 where a model, data or the
output folder cannot be used; 2 for a wrong command line; and 130 after Ctrl-C.
"""

from keras_amm.cli.program import main, parse, run

__all__ = ["main", "parse", "run"]
