"""The paper's ImageNet experiments (Section 4.4.5), which fine-tune published networks.

    python examples/imagenet.py --model=resnet-50 --init_from=imagenet --out=runs/imagenet-resnet-50
    python examples/imagenet.py --model=resnet-18 --init_from=runs/resnet-18/reference --out=runs/imagenet-resnet-18

The first starts from the weights of `keras.applications`, which Keras downloads; the other from an earlier run. A
file will do too, for ResNet-50 the one that Keras publishes. Without `--init_from` a reference is trained first.
`--help` lists all settings, and `trainer.py` says what the defaults are. A run that was stopped continues from its last
epoch.
"""

import trainer

if __name__ == "__main__":
    trainer.run("imagenet2012")
