"""The paper's MNIST experiments: MLP-800, LeNet and LiuNet, with and without AMM (Sections 4.3 and 4.4.1).

    python examples/mnist.py --model=mlp-800 --seed=0 --out=runs/mlp-amm
    python examples/mnist.py --model=mlp-800 --seed=0 --out=runs/mlp-reference --noamm
    python examples/mnist.py --penalty=default --out=runs/mlp-default
    python examples/mnist.py --model=lenet-mnist --validation --out=runs/lenet-validation
    python examples/mnist.py --num_train=20000 --out=runs/mlp-20k
    python examples/mnist.py --num_random_labels=30000 --out=runs/mlp-noisy
    python examples/mnist.py --method=mma --method_settings=largest=4 --out=runs/mlp-mma

needs MNIST as prepared by tensorflow-datasets (`TFDS_DATA_DIR` names the folder), or a network. All 60,000 images are
trained on and the test images measured; with `--validation` 5,000 training images are held out and measured instead.
`--method` is one of the methods that the paper compares with, in place of AMM. `--help` lists all settings and their
defaults; those of Table 2 are in `paper/training/table_2.py`. A run that was
stopped continues from its last epoch. To watch it:

    tensorboard --logdir=runs
"""

from paper.training import script

if __name__ == "__main__":
    script.run("mnist")
