"""Saving a script's figure, and saying where it is."""

import pathlib

from matplotlib.figure import Figure


def save_figure(figure: Figure, out: str) -> pathlib.Path:
    """Save a figure as the file `out`, whose folder is made if there is none; the path of the file.

    Matplotlib saves a figure whose name has no ending as PNG and adds `.png` to the name, so the path may not be `out`.

    Example:
    >>> import tempfile
    >>> path = save_figure(Figure(), tempfile.mkdtemp() + "/pictures/margins")
    >>> path.name, path.is_file()
    ('margins.png', True)
    """
    path = pathlib.Path(out)
    if not path.suffix:
        path = path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
