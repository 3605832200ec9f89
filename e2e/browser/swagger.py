"""Swagger UI at /docs: a person can make a collection and a document with *Try it out*, without the internet."""

import json
import sys
import tempfile
import urllib.request

import servers
import tests
from page import DESKTOP, PHONE, assert_fits, open_page, screenshot

ANSWER_MS_MAX = 15_000


def try_out(page, method, path, parameters, body):
    """Fills an operation in and executes it; gives the status it shows."""
    block = page.locator(f".opblock-{method}").filter(has=page.locator(f'[data-path="{path}"]'))
    block.locator(".opblock-summary").click()
    # Operations open ready to try: the button would close the form again.
    block.locator(".try-out__btn.cancel").wait_for(timeout=ANSWER_MS_MAX)
    for name, value in parameters.items():
        block.locator(f'tr[data-param-name="{name}"] input').fill(value)
    block.locator("textarea.body-param__text").fill(json.dumps(body))
    block.locator(".execute").click()
    status = block.locator(".live-responses-table tbody .response-col_status").first
    status.wait_for(timeout=ANSWER_MS_MAX)
    return status.inner_text().split()[0]


def test_try_it_out_creates_a_document():
    with tempfile.TemporaryDirectory(prefix="tidepool-browser-") as folder, servers.api(folder) as api:
        with open_page(DESKTOP) as page:
            page.goto(f"{api.url}/docs")
            base = "/v1/collections/{collection}"
            page.locator(".opblock").first.wait_for(timeout=ANSWER_MS_MAX)
            screenshot(page, "swagger-ui")
            assert try_out(page, "put", base, {"collection": "notes"}, {}) == "201"
            status = try_out(page, "post", f"{base}/documents", {"collection": "notes"}, {"data": {"title": "hello"}})
            assert status == "201", f"creating the document answered {status}"
        with urllib.request.urlopen(f"{api.url}/v1/collections/notes/documents", timeout=10) as answer:
            items = json.load(answer)["items"]
        assert [item["data"] for item in items] == [{"title": "hello"}], items


def test_docs_fit_a_phone():
    with tempfile.TemporaryDirectory(prefix="tidepool-browser-") as folder, servers.api(folder) as api:
        with open_page(PHONE) as page:
            page.goto(f"{api.url}/docs")
            page.locator(".opblock").first.wait_for(timeout=ANSWER_MS_MAX)
            assert_fits(page)


sys.exit(tests.run(globals()))
