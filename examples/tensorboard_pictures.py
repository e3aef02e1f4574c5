"""Pictures of what TensorBoard shows of margins, taken by headless Chromium.

    train="python examples/mnist.py --model=mlp-800 --num_train=10000 --epochs=12 --drop_at=8,11"
    $train --out=runs/tensorboard/with-amm
    $train --noamm --out=runs/tensorboard/without
    python examples/tensorboard_pictures.py --logdir=runs/tensorboard --out=pictures

starts a TensorBoard on the runs, opens its pages and saves `tensorboard_scalars.png`,
`tensorboard_histograms.png` and `tensorboard_images.png`. Chromium and its driver are needed
(on Debian `apt-get install chromium chromium-driver`) and `pip install selenium tensorboard`.
"""

import pathlib
from typing import Any

from absl import app, flags

from paper.tensorboard_browser import CHROMIUM, DRIVER, cards, headless_chromium, open_page, serving, wait_for

_LOGDIR = flags.DEFINE_string("logdir", "runs", "Folder of the runs.")
_OUT = flags.DEFINE_string("out", "pictures", "Folder for the pictures.")

_TAGS = "^margin/(acc|mean|med)|class/[05]"
# What is behind the address, the components that show one tag each, and the height of the window in pixels.
_PAGES = {
    "scalars": (f"#scalars&regexInput=margins&tagFilter={_TAGS}", "tf-scalar-card", 980),
    "histograms": ("#histograms&regexInput=margins", "tf-histogram-loader", 880),
    "images": ("#images&regexInput=margins", "tf-image-loader", 1500),
}


def main(argv: list[str]) -> None:
    del argv
    if CHROMIUM is None or DRIVER is None:
        raise SystemExit("Chromium and its driver are needed: on Debian, apt-get install chromium chromium-driver.")
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    with serving(_LOGDIR.value) as url, headless_chromium() as browser:
        for name, (page, component, height) in _PAGES.items():
            browser.set_window_size(1200, height)
            open_page(browser, url + page)
            wait_for(browser, lambda component=component: _are_drawn(cards(browser, component)))
            browser.save_screenshot(str(out / f"tensorboard_{name}.png"))


def _are_drawn(found: list[dict[str, Any]]) -> bool:
    # TensorBoard draws what is in view only.
    found = [card for card in found if card["in_view"]]
    return bool(found) and all(card["curves"] or any(width for width, _ in card["images"]) for card in found)


if __name__ == "__main__":
    app.run(main)
