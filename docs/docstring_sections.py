"""A Griffe extension: mkdocstrings knows `Examples:` only, and Keras writes `Example:`."""

import re
import textwrap
from typing import Any

import griffe

# Paragraphs of doctests.
_EXAMPLE = re.compile(r"^Example:\n((?:>>> (?:.+(?:\n|\Z))+\n*)+)", flags=re.MULTILINE)


class KerasSections(griffe.Extension):
    """Rename and indent the section, so that its doctest is shown as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Do so in one object's docstring."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(_as_examples, obj.docstring.value)


def _as_examples(match: re.Match[str]) -> str:
    return "Examples:\n" + textwrap.indent(match[1], "    ")
