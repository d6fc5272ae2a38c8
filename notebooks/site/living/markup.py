"""The HTML of what is live, in its first state: readable without a script, and what static/living.js begins with."""

import html
import json
import re
from typing import Any

TAGS = re.compile(r"<[^>]*>")


def embedded(kind: str, data: dict[str, Any]) -> str:
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
    return f'<script type="application/json" class="{kind}">{text}</script>'


def panel(data: dict[str, Any], *, page: str, pictures: str) -> str:
    """A panel. Controls are made by the script; pictures and note are those of the first state."""
    note, picture = "", '<div class="live-picture live-computed"></div>'
    if "script" not in data:
        *parts, note_at = data["states"][data["start"]]
        note, height = data["notes"][note_at], data["size"][1]
        alt = html.escape(data["alts"].get(data["start"]) or html.unescape(TAGS.sub("", note)), quote=True)
        images = "".join(
            f'<img alt="{alt if place == 0 else ""}" width="{width:g}" height="{height}" style="--width: {width:g}" '
            f'src="{pictures}{data["parts"][part]}.webp" decoding="async">'
            for place, (part, width) in enumerate(zip(parts, data["columns"], strict=True))
        )
        picture = f'<div class="live-picture" style="--all: {data["size"][0]}">{images}</div>'
    return (
        f'<figure class="live" id="{data["id"]}" data-page="{page}" data-pictures="{pictures}">'
        f'<div class="live-controls"></div>{picture}<figcaption><p class="live-note" aria-live="polite">{note}</p>'
        f'<p class="live-about"></p></figcaption>{embedded("live-data", data)}</figure>'
    )


def quiz(data: dict[str, Any], *, page: str, pictures: str) -> str:
    """A quiz. The script shuffles the answers and keeps what was chosen."""
    questions = []
    for number, question in enumerate(data["questions"]):
        answers = "".join(
            f'<label><input type="radio" name="{data["id"]}-{number}" value="{place}"> <span>{text}</span></label>'
            for place, (text, _, _) in enumerate(data["questions"][number]["answers"])
        )
        questions.append(
            f'<fieldset><legend>{number + 1}. {question["text"]}</legend><div class="answers">{answers}</div>'
            '<p class="feedback" aria-live="polite"></p></fieldset>'
        )
    return (
        f'<div class="quiz" data-page="{page}">{"".join(questions)}<p class="quiz-total" aria-live="polite"></p>'
        f"{embedded('live-data', data)}</div>"
    )


def prediction(data: dict[str, Any], *, page: str, pictures: str) -> str:
    """The box for the reader's own number. What came out lies closed below it until there is one."""
    box = f"{data['id']}-box"
    return (
        f'<form class="prediction" id="{data["id"]}" data-page="{page}">'
        f'<label for="{box}"><b>Your prediction.</b> {data["question"]}</label>'
        f'<div><input id="{box}" inputmode="decimal" autocomplete="off" placeholder="your number"> '
        f'{html.escape(data["unit"])} <button class="live-button">Compare</button></div>'
        '<p class="said" aria-live="polite"></p></form>'
    )


def comparison(data: dict[str, Any], *, page: str, pictures: str) -> str:
    """What came out; the script adds how far from it the prediction was."""
    found = f"{data['result']:z,.{data['digits']}f} {data['unit']}".strip()
    return (
        f'<div class="compared" data-prediction="{data["id"]}"><p><strong>Found: {html.escape(found)}.</strong></p>'
        f"{embedded('live-data', data)}</div>"
    )


def exercise(data: dict[str, Any], *, page: str, pictures: str) -> str:
    """The line below the stub of an exercise."""
    return (
        f'<p class="solved" data-page="{page}" data-exercise="{data["id"]}"><label><input type="checkbox"> I have'
        " solved this.</label> The check runs in JupyterLab and in Colab; hint and solution are folded beside it.</p>"
    )
