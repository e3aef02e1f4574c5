"""Numbers and tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table.

    Args:
        heads: the columns' titles.
        rows: the entries of each row.

    Returns:
        Lines of Markdown.
    """
    return "".join("| " + " | ".join(entries) + " |\n" for entries in (heads, ["---"] * len(heads), *rows))


def number(value: float | None, deviation: float | None, unit: str = "", digits: int = 2) -> str:
    """A number with its deviation.

    Args:
        value: float; None for an empty string.
        deviation: float; None for none.
        unit: str, behind the number.
        digits: int, behind the point.

    Returns:
        A string.

    Example:
    >>> number(0.9, 0.034, "%")
    '0.90% ± 0.03'
    """
    if value is None:
        return ""
    return f"{value:.{digits}f}{unit}" + (f" ± {deviation:.{digits}f}" if deviation is not None else "")
