"""HTML pages out of templates; each needs nothing but itself."""

import shlex
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sem_search.secrets import mask_secrets, mask_url
from sem_search.tracking.figures.study import format_rate
from sem_search.words import write_duration


def render_page(template: str, **values: Any) -> str:
    """Return a page; all values are escaped, and a name that the template misses is an error.

    Args:
        template: Name of a file in `templates`.
        values: What the template names.
    """
    return _get_environment().get_template(template).render(values)


@cache
def _get_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sem_search.tracking.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": lambda value: "–" if value is None else f"{value:.3f}",  # as the paper prints
        "percent": lambda value: ">99.9 %" if 0.9995 <= value < 1 else f"{100 * value:.1f} %",  # 100 only for all
        "rate": lambda value: "–" if value is None else format_rate(value),
        "duration": write_duration,
        "quoted": shlex.quote,
        "masked": lambda value: mask_secrets(str(value)),
        "masked_url": mask_url,
    }
    return environment
