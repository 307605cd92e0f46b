"""Cards as one HTML page: nothing from elsewhere, the same bytes for the same cards."""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from .. import files
from .cards import Card, Picture, Row
from .look import SCRIPT, STYLE

# What the leaves of the taxonomy have in common.
GROUPS = {
    "self-contained": "anomalies made of the product's own normal images",
    "external": "anomalies made of textures or colours from elsewhere",
    "inpainting": "regions hidden or filled, for a network to restore",
}
# Heads of the lists that readers choose by, and what the choice is called.
FILTERS = {"surfaces": "surface", "defects": "defect", "mask": "mask", "needs": "needs"}

_LINKS = re.compile(r"arXiv (\d{4}\.\d{4,5})|doi (10\.\d{4,}/[^\s,;)]+)|(https?://[^\s,;)]+)")
_CODE = re.compile(r"``(.+?)``|:\w+:`~?(.+?)`|`(.+?)`")


def write(path: str | os.PathLike[str], text: str) -> Path:
    """Write a page in one step, as others see it: never half of it.

    Raises:
        ValueError: As :func:`html_path`.
        OSError: The folder cannot be written.
    """
    path = html_path(path)
    with files.replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def html_path(path: str | os.PathLike[str]) -> Path:
    """Refuse a path that :func:`write` could not write; nothing is created.

    Raises:
        ValueError: Another extension than ``.html``, a folder, or in a folder that does not exist.
    """
    return files.to_write(path, ".html", ".htm")


def page(cards: Sequence[Card], *, title: str, facts: Iterable[str] = ()) -> str:
    """An HTML document with all cards, those of a group together, and choices to filter them by.

    Args:
        cards: In the order in which they are to stand; their names are unlike one another.
        title: The heading.
        facts: What holds for all of them, such as the seed; set below the title.

    Raises:
        ValueError: Two cards have one name.
    """
    twice = [name for name, count in Counter(card.name for card in cards).items() if count > 1]
    if twice:
        raise ValueError(f"cards: expected each name once, got {', '.join(twice)} twice")
    uses = Counter(picture.data for card in cards for row in card.rows for picture in row.pictures)
    # Pictures shown more than once, as the normal ones are, are carried once, as a style.
    shared = {data: f"s{number}" for number, data in enumerate(d for d, n in uses.items() if n > 1)}
    kinds = {p.data: p.mime for card in cards for row in card.rows for p in row.pictures}
    images = "\n".join(
        f".{name}{{background-image:url({_uri(kinds[data], data)})}}"
        for data, name in shared.items()
    )
    groups = list(dict.fromkeys(card.group for card in cards))
    sections = "\n".join(
        _section(group, [card for card in cards if card.group == group], shared) for group in groups
    )
    about = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{escape(title)}</title>
<style>
{STYLE}
{images}
</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<ul class="about">{about}</ul>
</header>
<form id="filters" aria-label="Filter">
{_filters(cards, groups)}
<output id="count">{len(cards)} of {len(cards)}</output>
</form>
<main>
{sections}
</main>
<dialog id="large" aria-label="Enlarged pictures"></dialog>
<script>
{SCRIPT}
</script>
</body>
</html>
"""


def _filters(cards: Sequence[Card], groups: Sequence[str]) -> str:
    choices = {"family": list(groups)}
    for head, name in FILTERS.items():
        choices[name] = sorted({word for card in cards for word in card.tags.get(head, ())})
    parts = ['<label>search <input id="words" type="search" placeholder="scratch"/></label>']
    for name, values in choices.items():
        options = "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)
        parts.append(
            f'<label>{name} <select name="{name}"><option value="">all</option>'
            f"{options}</select></label>"
        )
    parts.append('<button type="reset">show all</button>')
    return "\n".join(parts)


def _section(group: str, cards: Sequence[Card], shared: dict[bytes, str]) -> str:
    said = f" <small>{escape(GROUPS[group])}</small>" if group in GROUPS else ""
    body = "\n".join("\n".join(_card(card, shared)) for card in cards)
    head = f"<h2>{escape(group)}{said}</h2>"
    return f'<section>\n{head}\n<div class="cards">\n{body}\n</div>\n</section>'


def _card(card: Card, shared: dict[bytes, str]) -> Iterator[str]:
    data = {name: card.tags.get(head, ()) for head, name in FILTERS.items()}
    data["family"] = (card.group,)
    words = "".join(f' data-{key}="{escape("|".join(("", *v, "")))}"' for key, v in data.items())
    yield f'<article id="{escape(card.name)}"{words}>'
    yield f'<h3><a href="#{escape(card.name)}">{escape(card.name)}</a></h3>'
    yield f'<p class="summary">{_inline(card.summary)}</p>'
    if card.note:
        yield f'<p class="note">{_inline(card.note)}</p>'
    if card.rows:
        yield from _pictures(card.rows, shared)
    yield "<dl>"
    for head, words_of in card.tags.items():
        if words_of:
            tags = "".join(f"<span>{escape(word)}</span>" for word in words_of)
            yield f'<dt>{escape(head)}</dt><dd class="tags">{tags}</dd>'
    for head, text in (*card.facts, ("paper", card.paper)):
        yield f"<dt>{escape(head)}</dt><dd>{_linked(text)}</dd>"
    yield "</dl>"
    if card.parameters:
        count = len(card.parameters)
        yield f"<details><summary>parameters and their published defaults ({count})</summary>"
        yield '<dl class="parameters">'
        for one in card.parameters:
            yield (
                f"<dt><code>{escape(one.name)}={escape(one.default)}</code></dt>"
                f"<dd>{_inline(one.text)}</dd>"
            )
        yield "</dl></details>"
    for head, sentences in card.lists:
        yield f"<details><summary>{escape(head)} ({len(sentences)})</summary><ul>"
        yield from (f"<li>{_inline(sentence)}</li>" for sentence in sentences)
        yield "</ul></details>"
    yield "</article>"


def _pictures(rows: Sequence[Row], shared: dict[bytes, str]) -> Iterator[str]:
    heads = [picture.kind for picture in rows[0].pictures]
    columns = "".join(f"<span>{escape(head)}</span>" for head in heads)
    yield f'<div class="heads" aria-hidden="true">{columns}</div>'
    for row in rows:
        panels = "".join(_panel(picture, shared) for picture in row.pictures)
        told = f"<b>{escape(row.label)}</b> {escape(row.told)}"
        yield (
            f'<figure><div class="row" tabindex="0" role="button" aria-label="Enlarge">{panels}'
            f"</div><figcaption>{told}</figcaption></figure>"
        )


def _panel(picture: Picture, shared: dict[bytes, str]) -> str:
    height, width = picture.size
    if picture.data in shared:
        return (
            f'<span class="picture {shared[picture.data]}" role="img" '
            f'aria-label="{escape(picture.alt)}" style="aspect-ratio:{width}/{height}"></span>'
        )
    return (
        f'<img class="picture" alt="{escape(picture.alt)}" width="{width}" height="{height}" '
        f'loading="lazy" decoding="async" src="{_uri(picture.mime, picture.data)}"/>'
    )


def _uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def _inline(text: str) -> str:
    """Text in which what stands between backticks is code."""
    parts, end = [], 0
    for match in _CODE.finditer(text):
        parts.append(escape(text[end : match.start()]))
        parts.append(f"<code>{escape(next(g for g in match.groups() if g))}</code>")
        end = match.end()
    return "".join((*parts, escape(text[end:])))


def _linked(text: str) -> str:
    """Text in which identifiers of papers are links."""
    parts, end = [], 0
    for match in _LINKS.finditer(text):
        arxiv, doi, url = match.groups()
        if arxiv:
            url = f"https://arxiv.org/abs/{arxiv}"
        elif doi:
            url = f"https://doi.org/{doi}"
        parts.append(_inline(text[end : match.start()]))
        parts.append(f'<a href="{escape(url)}">{escape(match.group())}</a>')
        end = match.end()
    return "".join((*parts, _inline(text[end:])))
