"""How large the report of 1,000 runs is, how long it takes to make, and to open in Chromium.

    python benchmarks/report.py [--runs 1000]

Opening is until tables sort and filter and the figures in view are drawn, the median of five, each
in a fresh browser page; the browser's CPU seconds are what a quiet machine would take at most.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from reading import make
from rich.console import Console

from analysis import runs
from analysis.report.__main__ import write

REPEATS, LOGGED = 5, 120


def main() -> None:
    """Make the runs in a temporary folder, the page, and open it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    count = parser.parse_args().runs
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        make(results, count)
        lines = [
            {"phase": "policy", "update": 10_000 * index, "step": 10_000 * index}
            | {"updates_per_second": 100.0, "metrics": {"behavior/loss": 1.0}}
            for index in range(1, LOGGED + 1)
        ]
        journal = "".join(json.dumps(line) + "\n" for line in lines)
        for path in (results / "runs").iterdir():
            (path / "metrics.jsonl").write_text(journal)
        wall, cpu = time.perf_counter(), time.process_time()
        [file], _ = write(runs.load(results), results)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        size = file.stat().st_size / 1e6
        console.print(f"{count:,} runs: {size:.1f} MB, made in {wall:.1f} s ({cpu:.1f} s of CPU)")
        chromium = shutil.which("chromium")
        if chromium is None:
            console.print("no Chromium to open it with")
            return
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            opened, script = [], []
            for _ in range(REPEATS):
                page = browser.new_page()
                session = page.context.new_cdp_session(page)
                session.send("Performance.enable")
                begun = time.perf_counter()
                page.goto(file.as_uri())
                page.wait_for_selector("html[data-ready]")
                page.wait_for_selector(".plot .main-svg")
                opened.append(time.perf_counter() - begun)
                metrics = session.send("Performance.getMetrics")["metrics"]
                script.append({each["name"]: each["value"] for each in metrics}["TaskDuration"])
                page.close()
            browser.close()
        console.print(
            f"open after {statistics.median(opened):.2f} s ({min(opened):.2f} to "
            f"{max(opened):.2f}); the page's thread was busy for {min(script):.2f} s at least"
        )


if __name__ == "__main__":
    main()
