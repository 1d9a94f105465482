"""report.html in a real browser, over 10,000 queries: sorted, hovered, searched, by keyboard alone, in light and dark."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pages import NAMES, write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="drives a browser: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no browser is installed: apt-get install chromium", allow_module_level=True)
QUERIES = 10_000
CONTRASTS = """() => {
  const style = (element) => getComputedStyle(element);
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const [text, element] = [walk.currentNode.data.trim(), walk.currentNode.parentElement];
    if (!text || !element.getClientRects().length || element.closest("script, .hidden, :disabled")) continue;
    let below = element;
    while (below !== document.body && parse(style(below).backgroundColor)[3] === 0) below = below.parentElement;
    const [a, b] = [light(parse(style(element).color)), light(parse(style(below).backgroundColor))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 40)]);
  }
  return found;
}"""
PIXEL = """([id, series, value]) =>
  echarts.getInstanceByDom(document.getElementById(id)).convertToPixel({ seriesIndex: series }, value)
"""


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write(folder, QUERIES)
    return folder / "report.html"


@pytest.fixture
def page(browser: "Browser", report: Path) -> "Iterator[Page]":
    """Open the report; behind the test nothing has been asked of a network and nothing was complained about."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    told, asked = [], []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    assert (told, asked) == ([], [report.as_uri()])
    assert opened.evaluate("window.stung") is None
    opened.close()


def column(table: "Locator", number: int) -> list[str]:
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def sorts(table: "Locator") -> list[str | None]:
    return [header.get_attribute("aria-sort") for header in table.locator("thead th").all()]


def pixel(page: "Page", chart: str, series: int, value: list[float]) -> tuple[float, float]:
    """Where a plot shows a value."""
    page.locator(f"#{chart}").scroll_into_view_if_needed()
    x, y = page.evaluate(PIXEL, [chart, series, value])
    box = page.locator(f"#{chart}").bounding_box()
    return box["x"] + x, box["y"] + y


def test_a_header_sorts_its_column_and_says_how(page: "Page") -> None:
    table = page.locator("#table table")
    page.get_by_role("button", name="nDCG@10", exact=True).first.click()
    number = [one.inner_text() for one in table.locator("thead th").all()].index("nDCG@10")
    values = column(table, number + 1)
    assert values == sorted(values, reverse=True)
    assert sorts(table) == ["descending" if at == number else "none" for at in range(len(sorts(table)))]
    page.get_by_role("button", name="nDCG@10", exact=True).first.click()
    assert column(table, number + 1) == values[::-1]
    assert sorts(table)[number] == "ascending"
    page.get_by_role("button", name="ms / query").click()
    assert column(table, [one.inner_text() for one in table.locator("thead th").all()].index("ms / query") + 1)[-1] == "-"
    page.get_by_role("button", name="ranker", exact=True).first.click()
    assert sorts(table)[0] == "ascending"
    assert sorts(table).count("none") == len(sorts(table)) - 1


def test_hovering_shows_a_ranker_s_numbers_on_either_scale_of_time(page: "Page") -> None:
    for checked in (True, False):
        page.locator("#log").set_checked(checked)
        quality = float(page.locator("#table tbody tr", has_text=NAMES[2]).locator("td").nth(1).inner_text())
        page.mouse.move(*pixel(page, "frontier-chart", 1, [120.0 / 9, quality]))
        tip = page.locator("#frontier-chart .tip")
        tip.get_by_text(f"nDCG@10 {quality:.4f}").wait_for()
        assert tip.inner_text().split("\n") == [NAMES[2], f"nDCG@10 {quality:.4f}", "13.3 ms a query", "7.33 M parameters"]
        page.mouse.move(0, 0)


def test_a_point_of_the_scatter_is_hovered_and_opens_its_query_or_lists_its_queries(page: "Page") -> None:
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent).queries")
    x, y = (data["values"][name]["nDCG@10"] for name in (NAMES[1], NAMES[2]))
    alone = max((at for at in range(QUERIES) if x[at] < 1 and y[at] > 0), key=lambda at: x[at] - y[at])
    together = [at for at in range(QUERIES) if (x[at], y[at]) == (1, 0)]
    assert len(together) > 1
    at = pixel(page, "scatter-chart", 1, [x[alone], y[alone]])
    page.mouse.move(*at)
    page.locator("#scatter-chart .tip", has_text=data["texts"][alone]).wait_for()
    page.mouse.click(*at)
    assert page.locator("#h-open").inner_text() == data["texts"][alone]
    shown = page.locator("#rankings > div").all()
    assert [one.locator("h4").inner_text() for one in shown] == [NAMES[0], NAMES[1], NAMES[2]]
    assert all(one.locator("li").count() >= 10 for one in shown)
    assert page.locator("#rankings li.relevant").count() == 3
    page.mouse.click(*pixel(page, "scatter-chart", 1, [1, 0]))
    assert page.locator("#found").inner_text() == f"{len(together)} queries of 10,000 at the point chosen. All queries"
    assert {*page.locator("#list tbody button").all_inner_texts()} == {data["texts"][at] for at in together}
    page.get_by_role("button", name="All queries").click()
    assert page.locator("#found").inner_text() == "10,000 queries of 10,000"


def test_a_query_without_passages_says_how_many_have_them(page: "Page") -> None:
    opened = page.evaluate("Object.keys(JSON.parse(document.getElementById('data').textContent).queries.opened)")
    other = next(f"q{at}" for at in range(QUERIES - 1, 0, -1) if f"q{at}" not in opened)
    page.locator("#search").fill(f"question {other}")
    page.get_by_text("1 query of 10,000").wait_for()
    page.locator("#search").press("Enter")
    assert (
        page.locator("#rankings")
        .inner_text()
        .startswith("This file holds the passages of 200 of 10,000 queries, this one's not")
    )


def test_a_search_finds_a_query_and_what_is_in_the_document_stays_little(page: "Page") -> None:
    def size() -> int:
        return page.evaluate("document.querySelectorAll('*').length")

    assert page.locator("#list tbody tr").count() == 12
    assert size() < 2_000
    assert page.locator("#found").inner_text() == "10,000 queries of 10,000"
    page.locator("#search").fill("QUESTION q4242")
    page.get_by_text("1 query of 10,000").wait_for()
    assert page.locator("#list tbody th").all_inner_texts()[0].startswith("question q4242 ")
    page.locator("#search").fill("tides no such words")
    page.get_by_text("0 queries of 10,000").wait_for()
    assert page.locator("#list tbody tr").count() == 0
    page.locator("#search").fill("")
    page.get_by_text("10,000 queries of").wait_for()
    page.locator("#list").get_by_role("button", name="Next").click()
    assert page.locator("#list .pager span").inner_text() == "13 to 24 of 10,000"
    for name in ("Difference", "Query", "Ranker"):
        page.locator("#list").get_by_role("button", name=name, exact=True).click()
        assert page.locator("#list tbody tr").count() == 12
    assert size() < 2_000


def test_another_measure_and_other_rankers_are_shown_everywhere(page: "Page") -> None:
    page.locator("#measure").select_option("RR@10")
    page.locator("#ranker").select_option(NAMES[3])
    page.locator("#against").select_option(NAMES[0])
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent).queries.values")
    differences = [a - b for a, b in zip(data[NAMES[3]]["RR@10"], data[NAMES[0]]["RR@10"], strict=True)]
    assert column(page.locator("#list table"), 2)[0] == f"{min(differences):+.4f}"
    assert page.locator("#table tbody tr.chosen th").inner_text() == NAMES[3]
    page.locator("#table").get_by_role("button", name=NAMES[4]).click()
    assert page.locator("#ranker").input_value() == NAMES[4]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(page: "Page", scheme: str) -> None:
    other = {"light": "dark", "dark": "light"}[scheme]
    grounds = []
    for system, chosen in ((scheme, ""), (other, scheme)):
        page.emulate_media(color_scheme=system)
        page.locator("#theme").select_option(chosen)
        page.locator("#list tbody button").first.click()
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = page.evaluate(CONTRASTS)
        assert len(found) > 200
        assert [text for contrast, text in found if contrast < 4.5] == []
    assert grounds[0] == grounds[1] == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}[scheme]


def test_the_keyboard_alone_sorts_searches_and_opens_a_query(page: "Page") -> None:
    def reach(selector: str) -> None:
        for _ in range(120):
            page.keyboard.press("Tab")
            if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        pytest.fail(f"no number of tabs reaches {selector}")

    reach("a.skip")
    reach("#table thead button")
    page.keyboard.press("Enter")
    assert sorts(page.locator("#table table"))[0] == "ascending"
    reach("#table tbody button")
    reach("#frontier-chart")
    page.keyboard.press("ArrowRight")
    assert page.locator("#told").inner_text().startswith(f"{NAMES[1]}, nDCG@10 ")
    assert page.locator("#frontier-chart .tip b").inner_text() == NAMES[1]
    reach("#search")
    page.keyboard.type("question q4242")
    page.get_by_text("1 query of 10,000").wait_for()
    reach("#list tbody button")
    page.keyboard.press("Enter")
    assert page.locator("#h-open").inner_text().startswith("question q4242 ")
    assert page.evaluate("document.activeElement.id") == "open"


def test_every_plot_and_table_has_a_name_and_plots_say_in_words_what_they_show(page: "Page") -> None:
    named = {"frontier": NAMES[4:], "depth": NAMES[1:], "reliability": NAMES[1:], "scatter": NAMES[2:3]}
    for chart, names in named.items():
        label = page.locator(f"#{chart}-chart").get_attribute("aria-label")
        assert "Arrow keys visit the points" in label
        assert all(name in label for name in names)
    for region in page.get_by_role("region").all():
        assert region.get_attribute("aria-label") or region.get_attribute("aria-labelledby")


def test_a_narrow_window_scrolls_tables_and_not_the_page(page: "Page") -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.locator("#list tbody button").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_on_paper_all_that_is_folded_is_open_and_light(page: "Page") -> None:
    width = "echarts.getInstanceByDom(document.getElementById('depth-chart')).getWidth()"
    before = page.evaluate(width)
    page.locator("#theme").select_option("dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    assert page.evaluate(width) == 680
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(width) == before
    assert page.locator("details[open]").count() == 0
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
