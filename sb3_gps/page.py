"""A page of figures, pictures and videos that opens from disk, without a server or a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from sb3_gps.files import rewrite_text


@dataclass(frozen=True)
class Table:
    """Cells as they are shown."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As GitHub shows it."""
        lines = [f"| {' | '.join(self.header)} |", "|---" * len(self.header) + "|"]
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in self.rows)])


@dataclass(frozen=True)
class Section:
    """
    :param text: paragraphs
    :param pictures: (file, caption); files are images or .mp4, relative to the page
    :param code: shown as it is
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[tuple[str, str]] = ()
    code: str = ""


def write_page(
    path: Path, title: str, sections: Sequence[Section], refresh: int | None = None
) -> None:
    """
    Write one HTML file.

    :param refresh: seconds after which a browser loads it again; None: never
    :raises ValueError: a picture that is not there
    """
    from jinja2 import Environment

    for section in sections:
        for file, _ in section.pictures:
            if not (path.parent / file).exists():
                raise ValueError(f"the page {path} shows {file}, which is not beside it")
    template = files("sb3_gps").joinpath("templates/page.html").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(title=title, sections=sections, refresh=refresh)
    rewrite_text(path, page + "\n")
