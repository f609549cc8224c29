"""What all pages share: one look, everything escaped, nothing fetched, every file written whole."""

import re
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from unseen.files import whole
from unseen.report import figures


def typographic(text: str) -> str:
    """A real minus sign before digits."""
    return re.sub(r"(?<![\w.\-])-(?=[\d.])", "\u2212", text)


def _source(name: str) -> str:
    return resources.files("unseen.report").joinpath(name).read_text(encoding="utf-8")


def rendered(name: str, **values: Any) -> str:
    """The page that the template `name` of this package makes of `values`."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["minus"] = typographic
    environment.filters["themed"] = figures.themed
    return environment.get_template(name).render(variables=figures.VARIABLES, **values)


def grid_markdown(heads: list[str], lines: list[list[str]], right: bool = False) -> str:
    """A table as Markdown; `right` aligns all columns but the first to the right."""
    rule = ["---", *(["--:" if right else "---"] * (len(heads) - 1))]
    return "\n".join(
        "| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in [heads, rule, *lines]
    )


def write(path: Path, content: bytes) -> None:
    """By rename: where the file is, it is whole."""
    with whole(path) as temporary:
        temporary.write_bytes(content)
