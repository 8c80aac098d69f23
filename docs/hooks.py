"""What ``mkdocs`` is told beside mkdocs.yml: equations, links into the code, and where the packages lie.

Pages are written so that they read well where they lie, too: an equation is a block of ``math``, and a link to code goes to
the file, with the name of what is meant behind the ``#``. In the site an equation is MathML, which browsers draw by themselves,
and code that is linked gets a page of its own, where the link goes to the line that holds the equation's number.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from code_places import line_of
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("extractors", "models", "eval", "pipeline")
PYTHON = ROOT / "out" / "docs-python" / "tal_run"  # as in mkdocs.yml
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)
EQUATION = re.compile(r"^\*\*(Eqs?\. [\d-]+)\*\*")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set up the equations."""
    fence = {"name": "math", "class": "equation", "format": _equation}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def on_startup(*, command: str, dirty: bool) -> None:
    """Lay out the packages as mkdocstrings wants to find them: it forgets paths that are not there when it begins."""
    PYTHON.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        link = PYTHON / package
        if not link.is_symlink():
            link.symlink_to(ROOT / package)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside of docs/ that a page links, and for those that these link."""
    waiting = [ROOT / "docs" / file.src_uri for file in files.documentation_pages()]
    added: set[str] = set()
    while waiting:
        origin = waiting.pop()
        for _, _, target in LINK.findall(FENCE.sub("", origin.read_text(encoding="utf-8"))):
            linked = _linked(origin, target)
            if linked is None or linked.is_relative_to(ROOT / "docs") or not linked.is_file():
                continue
            uri = _uri(linked)
            if uri in added:
                continue
            added.add(uri)
            files.append(File.generated(config, uri, content=_content(linked)))
            if linked.suffix == ".md":
                waiting.append(linked)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files of the project to their pages."""
    origin = _origin(page.file.src_uri)
    if origin is None:
        return markdown
    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _with_links(part, origin, page.file) for part in parts)


def _with_links(text: str, origin: Path, file: File) -> str:
    def replaced(match: re.Match[str]) -> str:
        picture, shown, target = match.groups()
        linked = _linked(origin, target)
        if linked is None:
            return match.group()
        if linked.is_dir():
            return shown
        here = PurePosixPath(file.src_uri).parent
        anchor = target.partition("#")[2]
        uri = os.path.relpath(_uri(linked), here)
        if linked.suffix == ".py":
            line_start = text.rfind("\n", 0, match.start()) + 1
            equation = EQUATION.match(text[line_start:])
            place = f"#__codelineno-0-{line_of(linked, anchor, equation and equation[1])}" if anchor else ""
            return f'<a href="{uri.removesuffix(".md")}.html{place}">{_code(shown)}</a>'
        return f"{picture}[{shown}]({uri}{'#' + anchor if anchor else ''})"

    return LINK.sub(replaced, text)


def _code(shown: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)


def _linked(origin: Path, target: str) -> Path | None:
    """The file that a link means; None: it is no file of the project."""
    path = target.partition("#")[0]
    if not path or re.match(r"[a-z]+:", target):
        return None
    return (origin.parent / path).resolve()


def _uri(path: Path) -> str:
    """Where a file of the project stands in the site."""
    within = path.relative_to(ROOT)
    if within.parts[0] == "docs" and path.suffix != ".py":
        return within.relative_to("docs").as_posix()
    return f"project/{within.as_posix()}" if path.suffix in (".md", ".jpg", ".png") else f"source/{within.as_posix()}.md"


def _origin(uri: str) -> Path | None:
    """The file that a page was made of; None: it is code."""
    if uri.startswith("source/"):
        return None
    return ROOT / uri.removeprefix("project/") if uri.startswith("project/") else ROOT / "docs" / uri


def _content(path: Path) -> str | bytes:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    if path.suffix in (".jpg", ".png"):
        return path.read_bytes()
    text = path.read_text(encoding="utf-8")
    language = {".py": "python", ".yml": "yaml", ".cfg": "ini"}.get(path.suffix, "text")
    header = f"---\ntitle: {path.name}\nhide: [toc]\nsearch: {{exclude: true}}\n---\n\n# {path.relative_to(ROOT)}\n\n"
    return f'{header}````` {{ .{language} linenums="1" }}\n{text}\n`````\n'


def _equation(source: str, language: str, css_class: str, options: Any, md: Any, **_: Any) -> str:
    return f'<div class="equation">{convert(source.strip(), display="block")}</div>'
