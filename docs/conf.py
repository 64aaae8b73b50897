"""Settings of Sphinx for the pages in this folder.

    pip install -e '.[dev]' --group docs
    python -m sphinx -W --keep-going docs docs/_build/html
    python docs/check.py docs/_build/html

The build needs no network: it uses no inventory of another project, and no font, style or script
of another site.
"""

from __future__ import annotations

import contextlib
import re
import sys
from typing import TYPE_CHECKING, Any

import attrs
from sphinx.domains.python import PyObject
from sphinx.util.typing import stringify_annotation

import trio_anon_session

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "trio_anon_session"
author = "The trio_anon_session maintainers"
copyright = author
release = version = trio_anon_session.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
]
exclude_patterns = ["_build"]
# Single backticks without a role name an object of this package.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [
    # Names of Python and of other projects, which have their own pages.
    (r"py:.*", r"(_pytest|box_sdk_gen|collections|httpx2?|hypothesis|os|ssl|trio)\..*"),
    # Such names in signatures that omit the module.
    (r"py:class", "AbstractAsyncContextManager|AttributeValue|MeterProvider|Path|TracerProvider"),
    (r"py:(class|exc)", "AccessToken|BoxSDKError|NetworkSession"),
    # Type variables.
    (r"py:class", "P|T"),
    # Private names. The pages describe them where they are used, or signatures spell them out.
    (
        r"py:class",
        "AnswerKind|BlockingSession|Entry|HTTPClient|Key|Leaving|NetworkFailure|Session|Story",
    ),
    (r"py:class", r"(.*\.)?(ClientAuthentication|KeyOptions)"),
]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Each page names its module once, because long names would break on a phone.
add_module_names = False
python_maximum_signature_line_length = 72
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = project
pygments_dark_style = "a11y-dark"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False


def show_signature(
    _app: Sphinx,
    what: str,
    _name: str,
    obj: Any,
    _options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """Show the parameters of a class; for attrs, with types and defaults as in the source.

    The signature that attrs makes lacks them if there is a converter or a factory.
    For ``Granted()`` on a page, a class that users do not create, nothing is shown.
    """
    if what not in ("class", "exception"):
        return None
    if signature == "()":
        return "", None
    if not attrs.has(obj):
        return None
    fields = [field for field in attrs.fields(obj) if field.init]
    plain = [_show_field(field, obj) for field in fields if not field.kw_only]
    named = [_show_field(field, obj) for field in fields if field.kw_only]
    return f"({', '.join([*plain, *['*'] * bool(named), *named])})", returns


def _show_field(field: attrs.Attribute[Any], owner: type) -> str:
    kind = str(field.type)
    # A name that is imported only for type checkers stays as it is.
    with contextlib.suppress(NameError):
        names = vars(sys.modules[owner.__module__])
        kind = stringify_annotation(eval(kind, names), "smart")  # noqa: S307  # our own source
    shown = f"{field.alias}: {kind}"
    default = field.default
    if default is attrs.NOTHING:
        return shown
    if isinstance(default, attrs.Factory) and default.takes_self:
        return f"{shown} = ..."
    if isinstance(default, attrs.Factory):
        default = default.factory()
    return f"{shown} = {default!r}"


def keep_as_typed(_app: Sphinx, _context: object, lines: list[str]) -> None:
    """Show options and preformatted text of the command's help as code.

    Otherwise, Sphinx would turn two dashes into a long one, and change quotes.
    """
    shown: list[str] = []
    for line in lines:
        words = re.fullmatch(r"\|(?: (.*))?", line)
        if words is None:
            shown.append(re.sub(r"(?<![\w`-])--[\w-]+", r"``\g<0>``", line))
            continue
        if not shown or not shown[-1].startswith("   "):
            shown += ["", ".. code-block:: text", ""]
        shown.append(f"   {words[1] or ''}")
    lines[:] = [*shown, ""]


def setup(app: Sphinx) -> None:
    """Let Sphinx read attrs classes and the command's help, and label attributes as such."""
    app.connect("autodoc-process-signature", show_signature)
    app.connect("sphinx-click-process-description", keep_as_typed)
    app.connect("sphinx-click-process-epilog", keep_as_typed)
    for kind in PyObject.doc_field_types:
        if kind.name == "variable":
            kind.label = "Attributes"
