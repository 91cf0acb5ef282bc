"""What griffe, which reads docstrings for the site, is told about ours: `Example:` opens a section of examples."""

from __future__ import annotations

import re

from griffe import Extension, Object


class ExampleSections(Extension):
    """Names the section of examples as griffe knows it."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Rename the heading in the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
