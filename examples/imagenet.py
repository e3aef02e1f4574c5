"""The paper's ImageNet experiments (Section 4.4.5), which fine-tune published networks.

    python examples/imagenet.py --model=resnet-50 --out=runs/imagenet-resnet-50
    python examples/imagenet.py --model=senet-50 --init_from=senet-50.weights.h5 --out=runs/imagenet-senet-50

ResNet-50 starts from the weights of `keras.applications`, ResNet-18 from those of keras-hub (`pip install keras-hub`),
which are downloaded. For SENet-50 there are none: `--init_from` names a file or an earlier run's folder. A file will do
for the others too, for ResNet-50 the one that Keras publishes. Pixels are in [0, 1] less their mean. The authors' code
divides them by their deviation, of 0.22 to 0.23, as well, so the margins of Table 7 are in other units than ours.
`--help` lists all settings and their defaults; `paper/training/table_2.py` has those of Table 2. A run that was stopped
continues from its last epoch.
"""

from paper.training import script

if __name__ == "__main__":
    script.run("imagenet2012")
