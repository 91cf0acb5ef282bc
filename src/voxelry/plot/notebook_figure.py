"""NotebookFigure: a figure of matplotlib that a notebook shows at the end of a cell, also where pyplot was never imported."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A Figure with a picture of its own for IPython, which else shows figures only once pyplot has told it to."""

    def _repr_png_(self) -> bytes:
        """The figure as a PNG."""
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()
