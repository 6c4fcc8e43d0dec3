"""The page of all results: what it says, and how it behaves in a real browser, from a file."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from result_folders import ResultsFolder

from analysis import runs
from analysis.report import __main__ as report
from analysis.report import content

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
EVIL = '<script>document.title = "owned"</script><img src=x onerror="document.title = 1">'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ResultsFolder:
    """Three methods on two datasets with three seeds, a sweep of M, a film, and what can fail."""
    results = ResultsFolder(tmp_path_factory.mktemp("report") / "results")
    for place, env in enumerate(("hopper-medium", "walker2d-medium")):
        for seed in range(3):
            for label, M, mean in (("lom", 2, 40), ("lom", 5, 60), ("bc", None, 20)):
                level = mean + 10 * place + seed
                results.add(
                    M, seed, [[level - 9.0], [level + 0.25]], env=env, label=label,
                    beta=None if M is None else 5.0, metrics={"behavior/loss": [2.0, 1.0]},
                )  # fmt: skip
    lost = results.add(5, 3, [[1.0]], env="hopper-medium", status="diverged", error=EVIL)
    folder = results.path / "runs" / lost
    Image.new("RGB", (60, 40), (200, 30, 30)).save(folder / "watch.png")
    (folder / "watch.gif").write_bytes(b"GIF89a")
    (folder / "mlflow.json").write_text(
        json.dumps(
            {"destinations": [{"uri": "http://127.0.0.1:5000", "experiment_id": "1",
                               "run_id": "0123456789abcdef"}]}
        )
    )  # fmt: skip
    report.write(runs.load(results.path), results.path)
    return results


@pytest.fixture(scope="module")
def text(made: ResultsFolder) -> str:
    return (made.path / "report.html").read_text()


def test_the_page_says_what_was_run_on_which_data(text: str) -> None:
    facts = re.sub(
        r"\s+", " ", re.sub(r"<[^>]+>", " ", text[text.index("<dl>") : text.index("</dl>")])
    )
    assert "19: finished (18), diverged (1)" in facts
    assert "hopper-medium: collected data, not D4RL, sha256 abababababab, 40,000 rows" in facts
    assert "bc, lom" in facts
    assert "of each run its last evaluation" in facts


def test_every_section_is_there_and_whatever_a_run_says_is_text(text: str) -> None:
    anchors = re.findall(r'<section id="([\w-]+)">', text)
    assert anchors == [
        "run", "scores", "aggregates", "selection", "runs", "films", "hyperparameters", "problems",
    ]  # fmt: skip
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert EVIL not in text
    assert "&lt;script&gt;document.title" in text


def test_links_go_to_run_folders_beside_the_page_and_to_mlflow(
    made: ResultsFolder, text: str
) -> None:
    targets = re.findall(r'<a href="(runs/[^"]+)"', text)
    assert len(targets) == 19 + 2
    assert all((made.path / target).exists() for target in targets)
    assert 'href="http://127.0.0.1:5000/#/experiments/1/runs/0123456789abcdef"' in text


def test_the_same_results_give_the_same_page(made: ResultsFolder, text: str) -> None:
    report.write(runs.load(made.path), made.path)
    assert (made.path / "report.html").read_text() == text


def test_what_cannot_be_shown_is_told_in_its_place(tmp_path: Path) -> None:
    results = ResultsFolder(tmp_path / "results")
    results.add(2, 0, [[1.0]], env="hopper-medium")
    results.add(None, 0, [[1.0]], env="walker2d-medium", label="bc", beta=None)

    made = content.collect(runs.load(results.path), results.path)

    told = {section.title: section.body for section in made.sections}
    assert "no dataset has scored runs of every method" in told["Over datasets"]
    assert "no algorithm was run with several settings" in told["Choosing a setting"]


def test_an_empty_folder_or_none_evaluated_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ResultsFolder(tmp_path / "results")
    assert report.main([str(results.path)]) == 1
    assert "holds no runs" in capsys.readouterr().err
    results.add(2, 0, [], status="running")
    assert report.main([str(results.path)]) == 1
    assert "no run has an evaluation yet" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """The page in a browser, with all that it complained of and asked for."""

    def __init__(self, browser: Browser, file: Path, **options: object) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page: Page = browser.new_page(**options)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-ready]")

    def column(self, table: str, name: str) -> list[str]:
        """The cells of a column as they are shown."""
        return self.page.eval_on_selector(
            f"#{table}",
            """(table, name) => {
              const heads = [...table.tHead.rows[0].cells].map((cell) => cell.innerText.trim());
              const place = heads.indexOf(name);
              return [...table.tBodies[0].rows].map((row) => row.cells[place].innerText);
            }""",
            name,
        )

    def header(self, table: str, name: str):
        return self.page.locator(f"#{table} thead th", has_text=re.compile(f"^{name}$"))


@pytest.fixture
def opened(browser: Browser, made: ResultsFolder) -> Iterator[Opened]:
    opened = Opened(browser, made.path / "report.html", viewport={"width": 1200, "height": 900})
    yield opened
    assert opened.said == []
    opened.page.close()


def test_it_opens_from_a_file_without_a_complaint_or_a_request(opened: Opened) -> None:
    for plot in opened.page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()
    assert opened.page.title() == "Results: results"
    assert {url.split(":")[0] for url in opened.asked} <= {"file", "blob", "data"}


def test_a_click_on_a_header_or_enter_sorts_numbers_as_numbers(opened: Opened) -> None:
    header = opened.header("runs-table", "last")
    header.click()
    opened.page.locator("#runs-table th[aria-sort=ascending]").wait_for()
    ascending = [float(value) for value in opened.column("runs-table", "last")]
    assert ascending == sorted(ascending)
    assert len(ascending) == 19
    assert ascending[0] == 1.0  # of the diverged run, which as text would come after 20.2
    header.locator(".dt-column-order").focus()
    opened.page.keyboard.press("Enter")
    opened.page.locator("#runs-table th[aria-sort=descending]").wait_for()
    descending = [float(value) for value in opened.column("runs-table", "last")]
    assert descending == ascending[::-1]


def test_the_filter_leaves_rows_and_draws_their_curves(opened: Opened) -> None:
    search = opened.page.locator("#runs-table_wrapper input[type=search]")
    search.fill("walker2d bc")
    assert opened.column("runs-table", "method") == ["bc"] * 3
    assert opened.page.inner_text("#chosen") == "3 of 3 runs that the filter leaves"
    opened.page.locator("#curves").scroll_into_view_if_needed()
    opened.page.locator("#curves .main-svg").first.wait_for()
    names = opened.page.evaluate("document.getElementById('curves').data.map((line) => line.meta)")
    assert names == [f"bc walker2d-medium seed {seed}" for seed in range(3)]
    lines = opened.page.evaluate("document.getElementById('curves').data.map((line) => line.y)")
    assert lines[0] == [21.0, 30.25]


def test_a_point_under_the_pointer_shows_its_value(opened: Opened) -> None:
    figure = opened.page.locator("#cells")
    figure.scroll_into_view_if_needed()
    figure.locator(".points path").first.wait_for()
    figure.locator(".points path").first.hover(force=True)
    hover = figure.locator(".hoverlayer .hovertext").first
    hover.wait_for()
    assert re.search(r"hopper-medium: \d+\.\d ± \d+\.\d", hover.text_content() or "")


def test_it_fits_a_phone(browser: Browser, made: ResultsFolder) -> None:
    phone = Opened(browser, made.path / "report.html", viewport={"width": 375, "height": 700})
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 375
    assert phone.said == []
    phone.page.close()


def test_it_is_dark_where_the_reader_has_it_so(browser: Browser, made: ResultsFolder) -> None:
    colors = []
    for scheme in ("light", "dark"):
        opened = Opened(browser, made.path / "report.html", color_scheme=scheme)
        style = "getComputedStyle(document.body)"
        colors.append(
            [opened.page.evaluate(f"{style}.{name}") for name in ("backgroundColor", "color")]
        )
        plot = opened.page.locator("#cells")
        plot.scroll_into_view_if_needed()
        plot.locator(".xtick text").first.wait_for()
        tick = plot.locator(".xtick text").first.evaluate("(text) => getComputedStyle(text).fill")
        assert tick == colors[-1][1]  # figures have the page's ink
        opened.page.close()
    assert sum(map(int, re.findall(r"\d+", colors[0][0])[:3])) > 600
    assert sum(map(int, re.findall(r"\d+", colors[1][0])[:3])) < 150


def test_it_is_read_by_keyboard(opened: Opened) -> None:
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(60):
        opened.page.keyboard.press("Tab")
        seen.add(opened.page.evaluate("document.activeElement.tagName"))
        if "INPUT" in seen:
            break
    assert {"A", "INPUT"} <= seen
