"""The templates of the page. Every value is escaped, except the output of a template."""

from __future__ import annotations

import functools

import jinja2
from markupsafe import Markup


def render(name: str, **values: object) -> Markup:
    """The HTML of one template.

    Args:
      name: of a file in templates/.
      values: of the template's variables; a string is escaped, `Markup` is not.
    """
    return Markup(_environment().get_template(name).render(values))


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__),
        autoescape=True,  # whatever the file's ending
        undefined=jinja2.StrictUndefined,  # a misspelt name is an error, not a gap on the page
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["signed"] = signed
    return made


def signed(value: float, digits: int = 4) -> str:
    """`+0.0036`; a negative number that rounds to zero gets ± instead of a minus."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "±", 1) if not float(text) and text[0] == "-" else text
