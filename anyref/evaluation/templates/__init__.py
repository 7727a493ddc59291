"""The pages of the report and of the study: HTML, style and script files, and the function that fills them in."""

from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent


def render(name: str, page: dict[str, Any] | None = None) -> str:
    """Fill in the template `name`. All values are escaped, except what went through `markup`."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise ValueError("jinja2 is not installed; run: pip install 'anyref[evaluation]'") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["source"] = _source
    return environment.get_template(name).render(page or {})


def markup(text: str) -> Any:
    """Text that is HTML or SVG already and stands in a page as it is."""
    from markupsafe import Markup

    return Markup(text)


def _source(part: str) -> Any:
    """A style or script file as it is: it stands inside the page, so that the page needs no other file."""
    return markup((_FOLDER / part).read_text(encoding="utf-8"))
