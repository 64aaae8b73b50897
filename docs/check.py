"""Check that the links of the built pages and of their Markdown resolve.

    python docs/check.py docs/_build/html

- Built pages: links, anchors and files of this site exist; no page, style or picture loads
  anything from elsewhere.
- Markdown, as a forge shows it: the same for relative links, also in the README and its
  neighbours, which are not built pages.
- Reference: it contains every name in the ``__all__`` of a public module.

LinkChecker, the usual tool, reads no Markdown, and does not distinguish what a page loads from
what it links to. This program counts links to other sites, but does not follow them, so it needs
no network.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parent.parent
LOADING = {"stylesheet", "icon", "shortcut", "preload", "prefetch", "manifest", "modulepreload"}
"""Values of ``rel`` with which a browser loads the target of a ``<link>``."""
LOADED = {
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("image", "href"),
    ("image", "xlink:href"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("use", "href"),
    ("use", "xlink:href"),
    ("video", "poster"),
    ("video", "src"),
}
IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""")


@attrs.define
class Page:
    """The anchors of a page, and what the page links to and loads."""

    anchors: set[str] = attrs.field(factory=set)
    links: list[str] = attrs.field(factory=list)
    loads: list[str] = attrs.field(factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._in_style = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self._in_style = tag == "style"
        self.page.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.page.links.append(given["href"])
        if tag == "link" and "href" in given:
            is_loaded = LOADING & set(given.get("rel", "").split())
            (self.page.loads if is_loaded else self.page.links).append(given["href"])
        for name, value in given.items():
            if (tag, name) in LOADED:
                urls = re.split(r",\s+", value) if name == "srcset" else [value]
                self.page.loads += [url.split()[0] for url in urls if url.strip()]
        self.page.loads += IN_STYLES.findall(given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.page.loads += IN_STYLES.findall(data)


def read_html(text: str) -> Page:
    """Return anchors, links and loaded files of an HTML page or an SVG picture."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.page


def read_markdown(text: str) -> Page:
    """Return the contents of a page of Markdown, with the anchors that a forge gives headings."""
    page = Page()
    seen: Counter[str] = Counter()
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        children = token.children or []
        if before is not None and before.type == "heading_open":
            words = "".join(t.content for t in children if t.type in {"text", "code_inline"})
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            page.anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        for child in (token, *children):
            if child.type == "link_open":
                page.links.append(str(child.attrGet("href")))
            elif child.type == "image":
                page.loads.append(str(child.attrGet("src")))
            elif child.type in {"html_block", "html_inline"}:
                inside = read_html(child.content)
                page.anchors |= inside.anchors
                page.links += inside.links
                page.loads += inside.loads
    return page


@attrs.define
class Site:
    """A folder of pages that link to each other."""

    root: Path
    pages: dict[Path, Page]
    counts: Counter[str] = attrs.field(factory=Counter)

    def problems(self) -> Iterator[str]:
        """Yield each link that does not resolve, and count all links."""
        for path, page in sorted(self.pages.items()):
            self.counts["files"] += 1
            where = path.relative_to(self.root)
            for url in page.links:
                for problem in self._resolve(path, url, may_leave=True):
                    yield f"{where}: {url}: {problem}"
            for url in page.loads:
                for problem in self._resolve(path, url, may_leave=False):
                    yield f"{where}: {url}: {problem}"

    def _resolve(self, path: Path, url: str, *, may_leave: bool) -> Iterator[str]:
        parts = urlsplit(url)
        if parts.scheme == "data":
            return
        if parts.scheme or parts.netloc:
            self.counts["links to elsewhere"] += 1
            if not may_leave:
                yield "is loaded from elsewhere"
            return
        self.counts["links" if may_leave else "loads"] += 1
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_relative_to(self.root) or parts.path.startswith("/"):
            yield "is outside of the site"
        elif not target.exists():
            yield "does not exist"
        elif parts.fragment and target in self.pages:
            self.counts["anchors"] += 1
            if unquote(parts.fragment) not in self.pages[target].anchors:
                yield f"{target.relative_to(self.root)} has no such anchor"

    def __str__(self) -> str:
        names = ("files", "links", "anchors", "loads", "links to elsewhere")
        return ", ".join(f"{self.counts[name]} {name}" for name in names)


def built_site(folder: Path) -> Site:
    """Return the built pages, with their styles and pictures."""
    root = folder.resolve()
    pages = {
        path: read_html(path.read_text())
        for pattern in ("*.html", "*.svg")
        for path in root.rglob(pattern)
    }
    for path in root.rglob("*.css"):
        pages[path] = Page(loads=IN_STYLES.findall(path.read_text()))
    return Site(root, pages)


def source_site(root: Path = ROOT) -> Site:
    """Return the Markdown at the top of the project and in docs/."""
    root = root.resolve()
    paths = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    return Site(root, {path: read_markdown(path.read_text()) for path in paths})


def public_names(package: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each public name, with all names under which the reference may list it."""
    modules = [importlib.import_module(package)]
    modules += [
        importlib.import_module(found.name)
        for found in pkgutil.walk_packages(modules[0].__path__, f"{package}.")
        if not any(part.startswith("_") for part in found.name.split("."))
    ]
    for module in modules:
        for name in module.__all__:
            if name.startswith("__"):
                continue
            thing = getattr(module, name)
            same = {f"{m.__name__}.{name}" for m in modules if m.__dict__.get(name) is thing}
            yield f"{module.__name__}.{name}", same


def missing_names(anchors: Iterable[str], names: dict[str, set[str]]) -> list[str]:
    """Return the public names that the reference does not list."""
    there = set(anchors)
    return [name for name, same in names.items() if not same & there]


def main(folder: str) -> int:
    """Run all checks, print counts and problems, and return the exit code."""
    built, source = built_site(Path(folder)), source_site()
    problems = [*built.problems(), *source.problems()]
    names = dict(public_names("trio_anon_session"))
    anchors = [anchor for page in built.pages.values() for anchor in page.anchors]
    problems += [f"{name}: is not in the reference" for name in missing_names(anchors, names)]
    print(f"built: {built}")
    print(f"Markdown: {source}")
    print(f"reference: {len(names)} public names")
    print("\n".join(problems) or "no problems found")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
