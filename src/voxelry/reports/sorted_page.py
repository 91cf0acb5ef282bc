"""Pages whose tables sort and filter: templates with the page's own script in them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from voxelry.base.version import __version__


def render_page(template: str, **values: Any) -> str:
    """A page as HTML; texts among the values are escaped.

    Args:
        template: a file of the folder `templates`, which gets `script` and `version` too.
        values: by the names that it uses.
    """
    environment = Environment(
        loader=PackageLoader("voxelry.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = Markup(static_text("report.js"))
    return environment.get_template(template).render(script=script, version=__version__, **values)


def static_text(name: str) -> str:
    """A file of the folder `static`."""
    return (files("voxelry.reports") / "static" / name).read_text(encoding="utf-8")
