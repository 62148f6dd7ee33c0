"""What the documentation's site consists of: a hook of MkDocs, whose settings are in mkdocs.yml.

The site's tree is the repository's: each document is a page, and each file that a document links to is copied, both at
their own paths. So a link that works in the repository works in the site, and MkDocs finds one that does not.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = get_plugin_logger(__name__)

DECISIONS = "docs/decisions/README.md"
ASSETS = "docs/assets"
SERVED_AS_THEY_ARE = {".md", ".js", ".png", ".webp"}
LIST_IN_PARAGRAPH = re.compile(r"<p>(?:(?!</p>).)*?\n\s*(?:(?:[-*]|\d+\.) [^\n<]*|\|[^\n]*\|)", re.DOTALL)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def documents(root: Path) -> list[Path]:
    """Every document of the repository that a user reads; all of them must be in the navigation."""
    return sorted([*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("models/*/*.md")])


def linked_files(pages: list[Path]) -> set[Path]:
    """The files that the pages link to, pages left out; a link to something else stays for MkDocs to complain of."""
    targets = {(page.parent / link).resolve() for page in pages for link in LINK.findall(page.read_text("utf-8"))}
    return {target for target in targets if target.is_file() and target.suffix != ".md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the decisions below their list, in its sections."""
    root = Path(config.config_file_path).parent
    config.nav = _with_decisions(config.nav, _decisions(root / DECISIONS))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of docs/ by the repository's; those of the theme stay."""
    root = Path(config.config_file_path).parent
    pages = documents(root)
    theme = [file for file in files if file.src_dir != config.docs_dir]
    used = [*pages, *sorted(linked_files(pages)), *sorted(root.joinpath(ASSETS).iterdir())]
    return Files([*theme, *(_file(path, root, config) for path in used)])


def on_page_content(html: str, page: Page, **_: Any) -> None:
    """Warn, which ends a strict build, of a list or table that GitHub shows as one and MkDocs as text."""
    if found := LIST_IN_PARAGRAPH.search(html):
        begin = found.group().splitlines()[-1].strip()
        log.warning("%s: put an empty line before the list or table of: %s", page.file.src_uri, begin)


def _file(path: Path, root: Path, config: MkDocsConfig) -> File:
    name = path.relative_to(root).as_posix()
    shown_as_text = path.suffix not in SERVED_AS_THEY_ARE  # a browser shows .txt, and only saves .yaml
    return File(
        name,
        str(root),
        config.site_dir,
        config.use_directory_urls,
        dest_uri=f"{name}.txt" if shown_as_text else None,
    )


def _decisions(listing: Path) -> list[Any]:
    """Navigation: the list itself, then each of its sections with the pages that it links to."""
    folder = Path(DECISIONS).parent
    _, *sections = re.split(r"^## ", listing.read_text("utf-8"), flags=re.MULTILINE)
    nav: list[Any] = [DECISIONS]
    for section in sections:
        title, _, body = section.partition("\n")
        nav.append({title: [str(folder / name) for name in LINK.findall(body)]})
    return nav


def _with_decisions(nav: Any, decisions: list[Any]) -> Any:
    if nav == DECISIONS:
        return decisions
    if isinstance(nav, list):
        return [_with_decisions(entry, decisions) for entry in nav]
    if isinstance(nav, dict):
        return {title: _with_decisions(entry, decisions) for title, entry in nav.items()}
    return nav
