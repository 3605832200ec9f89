"""Swagger UI at /docs: a person can make a collection and a document with *Try it out*, without the internet."""

import json
import sys
import tempfile
import urllib.request

import servers
import tests
from page import DESKTOP, PHONE, assert_fits, open_page, screenshot

ANSWER_MS_MAX = 15_000
SHOWN_STATUS = ".live-responses-table tbody .response-col_status"
SHOWN_BODY = ".live-responses-table tbody .response-col_description pre.microlight"

COLLECTION = "/v1/collections/{collection}"
DOCUMENT = "/v1/collections/{collection}/documents/{id}"

# JavaScript's JSON.parse alters each of these numbers, and the white space is the writer's own.
EXACT = '{"a":9007199254740993, "b":18446744073709551615,"c":1.0 ,"d":-9223372036854775808,"e":1E+2,"f":[0.10]}'


def execute(page, method, path, parameters, body=None):
    """Fills an operation in and executes it; gives its block when an answer is shown."""
    block = page.locator(f".opblock-{method}").filter(has=page.locator(f'[data-path="{path}"]'))
    block.locator(".opblock-summary").click()
    # Operations open ready to try: the button would close the form again.
    block.locator(".try-out__btn.cancel").wait_for(timeout=ANSWER_MS_MAX)
    for name, value in parameters.items():
        block.locator(f'tr[data-param-name="{name}"] input').fill(value)
    if body is not None:
        block.locator("textarea.body-param__text").fill(body if isinstance(body, str) else json.dumps(body))
    block.locator(".execute").click()
    block.locator(SHOWN_STATUS).first.wait_for(timeout=ANSWER_MS_MAX)
    return block


def try_out(page, method, path, parameters, body):
    """Executes an operation; gives the status it shows."""
    return execute(page, method, path, parameters, body).locator(SHOWN_STATUS).first.inner_text().split()[0]


def fetch(url, method="GET", body=None):
    """The bytes of an answer, by another way than the page."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body and body.encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def test_try_it_out_creates_a_document():
    with tempfile.TemporaryDirectory(prefix="tidepool-browser-") as folder, servers.api(folder) as api:
        with open_page(DESKTOP) as page:
            page.goto(f"{api.url}/docs")
            page.locator(".opblock").first.wait_for(timeout=ANSWER_MS_MAX)
            screenshot(page, "swagger-ui")
            assert try_out(page, "put", COLLECTION, {"collection": "notes"}, {}) == "201"
            status = try_out(page, "post", f"{COLLECTION}/documents", {"collection": "notes"}, {"data": {"title": "hello"}})
            assert status == "201", f"creating the document answered {status}"
        with urllib.request.urlopen(f"{api.url}/v1/collections/notes/documents", timeout=10) as answer:
            items = json.load(answer)["items"]
        assert [item["data"] for item in items] == [{"title": "hello"}], items


def test_bodies_are_shown_as_they_came():
    """What a reader copies from the page and sends back must not alter the document."""
    with tempfile.TemporaryDirectory(prefix="tidepool-browser-") as folder, servers.api(folder) as api:
        fetch(f"{api.url}/v1/collections/notes", "PUT", "{}")
        with open_page(DESKTOP) as page:
            page.goto(f"{api.url}/docs")
            page.locator(".opblock").first.wait_for(timeout=ANSWER_MS_MAX)
            place = {"collection": "notes", "id": "n"}
            put = execute(page, "put", DOCUMENT, place, '{"data":%s}' % EXACT)
            put_body = put.locator(SHOWN_BODY).first.inner_text()
            stored = fetch(f"{api.url}/v1/collections/notes/documents/n")
            assert EXACT in stored, f"the page sent something else: {stored}"
            assert put_body == stored, f"PUT shows {put_body}"
            get = execute(page, "get", DOCUMENT, place)
            shown = get.locator(SHOWN_BODY).first.inner_text()
            assert shown == stored, f"GET shows {shown}"
            missing = execute(page, "delete", DOCUMENT, {"collection": "notes", "id": "none"})
            problem = missing.locator(SHOWN_BODY).first.inner_text()
            assert json.loads(problem)["type"] == "urn:tidepool:problem:document-not-found", problem


def test_the_root_leads_here_and_head_is_not_shown():
    with tempfile.TemporaryDirectory(prefix="tidepool-browser-") as folder, servers.api(folder) as api:
        with open_page(DESKTOP) as page:
            page.goto(api.url)
            page.locator(".opblock-get").first.wait_for(timeout=ANSWER_MS_MAX)
            assert page.url == f"{api.url}/docs", page.url
            paths = json.loads(fetch(f"{api.url}/openapi.json"))["paths"]
            expected = sum(method != "head" for methods in paths.values() for method in methods)
            shown = page.locator(".opblock:visible").count()
            assert shown == expected > 0, f"{shown} operations are shown of {expected}"
            assert page.locator(".opblock-head:visible").count() == 0
        assert "head" in paths[DOCUMENT], "the document keeps HEAD for those who need it"


def test_docs_fit_a_phone():
    with tempfile.TemporaryDirectory(prefix="tidepool-browser-") as folder, servers.api(folder) as api:
        with open_page(PHONE) as page:
            page.goto(f"{api.url}/docs")
            page.locator(".opblock").first.wait_for(timeout=ANSWER_MS_MAX)
            assert_fits(page)


sys.exit(tests.run(globals()))
