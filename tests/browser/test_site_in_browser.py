"""The built site in a real Chromium, opened from the disk: no kernel, no server, no network.

    make test-site
    .venv/bin/pytest -m site tests/browser -k 05        one page

Every control is moved by keyboard and mouse, and has to change what is seen; axe-core looks for poor contrast, missing
labels and missing alternative texts, in light and dark; nothing may be wider than a phone. How quickly each control
answered is reported at the end, against the course's own bar of 100 ms.
"""

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_driver import FLAGS, chromium
from living.record import describe

from madlab import lessons, widgets

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
AXE = ROOT / "build" / "site-tools" / "node_modules" / "axe-core" / "axe.min.js"
WATCH = Path(__file__).with_name("site_watch.js")
PAGES = sorted(path for path in (*SITE.glob("[0-9]*.html"), *SITE.glob("site/*.html")))
LIVE = [page for page in PAGES if 'class="live"' in page.read_text()]
MEGABYTE = 1e6
pytestmark = pytest.mark.site


def names(paths: list[Path]) -> list[str]:
    return [path.stem[:24] for path in paths]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if chromium() is None or not PAGES or not AXE.exists():
        pytest.exit("The site is tested as `make site` builds it, in Chromium: run make test-site.", 2)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function: (page, width, scheme, hash) -> an open page, whose errors and requests to others fail the test."""
    opened, troubles = [], []

    def opener(path: Path, width: int = 1400, scheme: str = "light", state: str = "") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: troubles.append(request.url) if is_foreign(request.url) else None)
        page.goto(path.as_uri() + state)
        page.evaluate(WATCH.read_text())
        opened.append(context)
        return page

    yield opener
    for context in opened:
        context.close()
    assert troubles == []


def is_foreign(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def test_the_site_is_small() -> None:
    assert sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file()) < 80 * MEGABYTE
    sizes = {path.stem: path.stat().st_size for path in (SITE / "_static" / "panels").glob("*.webp")}
    for page in LIVE:
        parts = {name for data in recorded(page) for name in data.get("parts", [])}
        assert sum(sizes[name] for name in parts) < 10 * MEGABYTE, page.name


def recorded(page: Path) -> list[dict[str, Any]]:
    scripts = re.findall(r'<script type="application/json" class="live-data">(.*?)</script>', page.read_text())
    return [json.loads(script) for script in scripts]


def test_no_page_mentions_what_it_would_have_to_fetch() -> None:
    for page in PAGES:
        assert re.findall(r'(?:src|data)="(https?:[^"]*)"', page.read_text()) == []
        assert re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="(https?:[^"]*)"', page.read_text()) == []


@pytest.mark.parametrize("page", LIVE, ids=names(LIVE))
def test_every_control_changes_what_is_seen(page: Path, open_page: Any, record_property: Any) -> None:
    opened = open_page(page)
    dead = []
    for figure in opened.locator("figure.live, .quiz").all():
        figure.scroll_into_view_if_needed()
        opened.wait_for_timeout(500)
        # Menus last: a layer that shows all its filters has nothing left for the slider that pages through them.
        controls = sorted(figure.locator("input, select, button").all(), key=lambda c: tag(c) == "SELECT")
        for control in controls:
            for again in figure.locator(".live-again").all():
                again.click()  # every control moves from the state that readers see first
            moves = move(opened, figure, control)
            for other in controls[::-1]:
                if any(changed for changed, _ in moves):
                    break
                to_the_end(other)  # what sets things back needs something to set back; a layer may have few filters
                moves += move(opened, figure, control)
            name = control.evaluate("node => (node.labels?.[0] || node).textContent.trim()")
            if not any(changed for changed, _ in moves):
                dead.append(name)
            times = [ms for changed, ms in moves if changed]
            record_property("site control", (page.stem[:2], f"{name} ({tag(control).lower()})", times))
    assert dead == [], "these controls change nothing that is seen"


def tag(control: Any) -> str:
    return str(control.evaluate("node => node.tagName"))


def move(page: Any, figure: Any, control: Any) -> list[tuple[bool, float]]:
    """Move a control as a hand does: (whether what is seen changed, milliseconds) of each move."""
    if control.is_disabled():
        return []
    kind = control.get_attribute("type")
    if kind == "range":
        hands = [lambda key=key: control.press(key) for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "Home", "End")]
    elif tag(control) == "SELECT":
        count = control.locator("option").count()
        hands = [lambda i=i: control.select_option(index=i) for i in (*range(min(count, 6)), 0)]
    else:
        hands = [control.click, control.click] if kind == "checkbox" else [control.click]
    return [watched(page, figure, hand) for hand in hands]


def to_the_end(control: Any) -> None:
    """Leave a control at its last value."""
    if control.is_enabled() and tag(control) == "SELECT":
        control.select_option(index=control.locator("option").count() - 1)
    elif control.is_enabled() and control.get_attribute("type") == "range":
        control.press("End")


def watched(page: Any, figure: Any, hand: Callable[[], Any]) -> tuple[bool, float]:
    figure.evaluate("root => window.watch.begin(root)")
    hand()
    while page.evaluate("() => window.watch.quiet()") < 150:
        page.wait_for_timeout(20)
    seen = page.evaluate("() => window.watch.end()")
    return seen["changed"], seen["ms"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_everybody_can_use_it(page: Path, scheme: str, open_page: Any) -> None:
    opened = open_page(page, scheme=scheme)
    opened.evaluate("() => document.querySelectorAll('article details').forEach(node => { node.open = true; })")
    opened.evaluate(AXE.read_text())
    found = opened.evaluate("() => axe.run({ preload: false, runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] })")
    faults = {fault["id"]: [node["html"][:200] for node in fault["nodes"][:3]] for fault in found["violations"]}
    assert faults == {}
    assert opened.evaluate("() => [...document.images].filter(image => !image.naturalWidth).length") == 0


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_it_fits_a_phone(page: Path, open_page: Any) -> None:
    opened = open_page(page, width=390)
    assert opened.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_formulas_are_drawn_with_their_own_fonts(open_page: Any) -> None:
    for page in PAGES:
        assert "katex-error" not in page.read_text() and "<code>\\" not in page.read_text(), page.name
    page = open_page(SITE / "site" / "notation.html", width=390)
    assert page.locator(".katex").count() > 20
    page.evaluate("() => document.fonts.ready.then(() => 1)")
    loaded = page.evaluate(
        "() => [...document.fonts].filter(font => font.status === 'loaded').map(font => font.family)"
    )
    assert "KaTeX_Math" in str(loaded)


@pytest.mark.parametrize("page", LIVE, ids=names(LIVE))
def test_the_address_leads_to_the_state(page: Path, open_page: Any) -> None:
    opened = open_page(page)
    figure = opened.locator("figure.live").first
    for control in figure.locator("input[type=range], select").all():
        if control.is_enabled():
            control.press("End")
    opened.wait_for_timeout(400)
    state = opened.evaluate("() => location.hash")
    assert "=" in state and state == figure.locator(".live-link").get_attribute("href")
    again = open_page(page, state=state).locator("figure.live").first
    again.evaluate("root => new Promise(done => setTimeout(done, 400))")
    assert again.evaluate("root => window.watch.look(root)") == figure.evaluate("root => window.watch.look(root)")


@pytest.mark.parametrize("page", [page for page in LIVE if page.stem[:2] in ("01", "03")], ids=lambda page: page.stem)
def test_every_state_that_is_computed_has_an_address(page: Path, open_page: Any) -> None:
    """Also where a rule moves another control with the one that is moved, and between the steps of a slider."""
    opened = open_page(page)
    computed = "one => 'script' in JSON.parse(one.querySelector('.live-data').textContent)"
    found = opened.evaluate(f"() => [...document.querySelectorAll('figure.live')].find({computed}).id")
    figure = opened.locator(f"#{found}")
    for menu in figure.locator("select").all():
        menu.press("End")
    figure.locator("input[type=range]").last.press("PageUp")
    for box in figure.locator("input[type=checkbox]").all():
        box.set_checked(False)
    opened.wait_for_timeout(400)
    again = open_page(page, state=opened.evaluate("() => location.hash"))
    note = f"#{found} .live-note"
    assert again.locator(note).inner_html() == opened.locator(note).inner_html()


def test_a_link_to_a_heading_leaves_panels_as_they_are(open_page: Any) -> None:
    opened = open_page(LIVE[0])
    figure = opened.locator("figure.live").first
    figure.locator("select, input[type=range]").first.press("End")
    opened.wait_for_timeout(400)
    before = figure.locator(".live-note").inner_html()
    opened.evaluate("() => { location.hash = '#how-the-course-works'; }")
    opened.wait_for_timeout(400)
    assert figure.locator(".live-note").inner_html() == before


def test_answers_and_ticks_are_still_there_after_a_reload(open_page: Any) -> None:
    page = open_page(next(page for page in PAGES if page.stem.startswith("05")))
    quiz = page.locator(".quiz")
    for question in quiz.locator("fieldset").all():
        for answer in question.locator("label").all():
            answer.click()
            assert question.locator(".feedback").inner_text().startswith(("✓ Right.", "✗ No."))
    total = quiz.locator(".quiz-total").inner_text()
    assert re.fullmatch(r"\d of \d right\.", total)
    page.locator(".solved input").first.check()
    page.reload()
    assert page.locator(".quiz-total").inner_text() == total
    assert page.locator(".solved input").first.is_checked() and not page.locator(".solved input").last.is_checked()


def test_a_prediction_opens_what_came_out_and_is_compared_as_in_python(open_page: Any, record_property: Any) -> None:
    asking = [page for page in PAGES if 'class="prediction"' in page.read_text()]
    assert len(asking) == len(list((ROOT / "notebooks").glob("[0-9]*.ipynb")))
    for path in asking:
        page = open_page(path)
        for form in page.locator(".prediction").all():
            mine = f"[data-prediction={form.get_attribute('id')}]"
            said, found = form.locator(".said"), page.locator(f".compared{mine}")
            hidden = page.locator(f"details.covered{mine}")
            for typed in ("", "much"):
                form.locator("input").fill(typed)
                form.locator("button").click()
                assert said.inner_text() and hidden.count() and not found.is_visible(), (path.stem, mine)
            form.locator("input").fill("30")
            moved = watched(page, page.locator("article"), lambda form=form: form.locator("input").press("Enter"))
            record_property("site control", (path.stem[:2], f"prediction {mine[17:-1]}", [moved[1]]))
            assert found.inner_text() == in_python(found, "30") and found.is_visible()
            assert hidden.evaluate_all("nodes => nodes.every(node => node.open)")
        page.reload()
        for found in page.locator(".compared").all():
            assert found.is_visible() and found.inner_text() == in_python(found, "30")


def in_python(found: Any, typed: str) -> str:
    """What `Prediction.compare` says, without the stars of Markdown."""
    data = json.loads(found.locator(".live-data").text_content())
    prediction = lessons.predict("?", data["unit"])
    prediction.box.value = typed
    prediction.compare(data["result"], data["digits"])
    return prediction.comparison().replace("*", "")


@pytest.mark.parametrize("unit", ["%", "kB", "times", ""])
def test_a_prediction_is_read_and_written_as_in_python(unit: str, open_page: Any) -> None:
    page, rng = open_page(LIVE[0]), random.Random(0)
    typed = [
        "",
        " ",
        "40",
        "40 %",
        "−3",
        "-3.1",
        "2,6",
        "1,234.6",
        "12,345",
        "1,23,4",
        "0,125",
        ".6",
        "5.",
        "much",
        "nan",
        "inf",
    ]
    typed += ["1e2", "1e400", *(str(rng.uniform(-3000, 3000)) for _ in range(200))]
    for text in typed:
        data = {"result": rng.choice([7, 1243, rng.uniform(-100, 100)]), "digits": rng.choice((0, 1, 2)), "unit": unit}
        prediction = lessons.predict("?", unit)
        prediction.box.value = text
        prediction.compare(data["result"], data["digits"])
        said = page.evaluate("([data, text]) => madlab.verdict(data, text)", [data, text])
        assert prediction.comparison().endswith(f".** {said}"), (text, data)


def at_random(control: Any, rng: random.Random) -> tuple[Any, Any]:
    """A value of a control, as Python and as the page has it: menus have texts there."""
    if hasattr(control, "options"):
        option = rng.choice(control.options)
        return option[::-1] if isinstance(option, tuple) else (option, option)
    if hasattr(control, "step"):
        steps = round((control.max - control.min) / control.step)
        value = round(control.min + rng.randrange(steps + 1) * control.step, 6)
        return value, value
    value = rng.random() < 0.5
    return value, value


@pytest.mark.parametrize("make", [widgets.score_board, widgets.budget_calculator])
def test_arithmetic_in_the_page_is_that_of_python(make: Any, open_page: Any) -> None:
    panel, rng = make(), random.Random(0)
    script, numbers = panel.arithmetic
    page = open_page(LIVE[0])
    for _ in range(100):
        chosen = {name: at_random(control, rng) for name, control in panel.controls.items()}
        texts = {name: text for name, (_, text) in chosen.items()}
        panel.go({name: value for name, (value, _) in chosen.items()})
        panel.redraw()
        compute = "([script, numbers, values]) => madlab.arithmetic[script].compute(numbers, values)"
        assert close(page.evaluate(compute, [script, numbers, texts]), panel.state), texts

        moved = rng.choice(list(panel.controls))
        value, texts[moved] = at_random(panel.controls[moved], rng)
        panel.controls[moved].value = value
        after = "([script, numbers, values, moved]) => madlab.arithmetic[script].after(numbers, values, moved)"
        if value != chosen[moved][0]:  # otherwise nothing has moved
            there = page.evaluate(after, [script, numbers, texts, moved])
            shown = {entry["name"]: entry["value"] for entry in describe(panel)}
            assert close(there, shown), (texts, moved)


def close(got: Any, wanted: Any) -> bool:
    """Whether what Python has is the same in the page, up to rounding."""
    if isinstance(wanted, dict):
        return all(close(got[name], value) for name, value in wanted.items())
    return bool(got == (pytest.approx(wanted, rel=1e-9, abs=1e-9) if isinstance(wanted, float) else wanted))
