# SPDX-License-Identifier: BSD-3-Clause
"""Let MkDocs see the repository as a forge does: a hook that ``mkdocs.yml`` names.

The site has more than ``docs/``: the README is its front page, and the roles' READMEs, the
changelog and SECURITY.md are pages. Each keeps the path that it has in the repository, so a link
is the same in both, and MkDocs checks it.
"""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: The pages outside ``docs/``.
PAGES = ("README.md", "CHANGELOG.md", "SECURITY.md", "roles/*/README.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the pages and pictures, each under its path in the repository."""
    found = [file for file in files if file.src_dir != config.docs_dir]  # the theme's own files
    for pattern in (*PAGES, "docs/**/*"):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                found.append(file_of(path.relative_to(ROOT), config))
    return Files(found)


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Leave out the list of pages beside the front page, which has only itself there."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]
    return markdown


def on_post_page(output: str, **_: object) -> str:
    """Name the dialog of the search for screen readers; the theme gives it no name."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"', 1)


def file_of(path: Path, config: MkDocsConfig) -> File:
    """Return a file of the repository, with its place in the site."""
    file = File(path.as_posix(), str(ROOT), config.site_dir, config.use_directory_urls)
    # The site has no folder `docs`.
    file.dest_uri = file.dest_uri.removeprefix("docs/")
    return file
