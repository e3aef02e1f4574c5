"""The figure of all pictures. Only what draws imports this module, since it needs matplotlib."""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure made without pyplot, so that none is kept open, which still shows itself in a notebook."""

    def _repr_png_(self) -> bytes:
        """The picture, which IPython asks for where a cell's value is a figure and matplotlib is not set up."""
        buffer = io.BytesIO()
        FigureCanvasAgg(self).print_figure(buffer, format="png", dpi=self.dpi)
        return buffer.getvalue()
