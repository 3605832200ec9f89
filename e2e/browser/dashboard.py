"""The autoscaler's dashboard while the demo runs: the member count changes by itself, and the page fits a phone.

The argument is its address; the pool is the demo's.
"""

import sys
import urllib.request

import servers
import tests
from page import DESKTOP, PHONE, assert_fits, open_page, screenshot, wanted

ADDRESS = sys.argv[1]
POOL = '[data-pool="api"]'
SERVING = f'{POOL} [data-field="serving"]'
# The demo starts its programs and first members, and its tide of 150 s rises slowly.
APPEARS_SECS_MAX = 90
CHANGES_SECS_MAX = 120


def open_dashboard(page):
    servers.wait_until("the dashboard answers", lambda: servers.answers(ADDRESS + "/livez"), APPEARS_SECS_MAX)
    page.goto(ADDRESS + "/")
    page.wait_for_function(
        "selector => Number(document.querySelector(selector)?.textContent) > 0",
        arg=SERVING,
        timeout=APPEARS_SECS_MAX * 1000,
    )


def test_member_count_changes_by_itself():
    with open_page(DESKTOP) as page:
        open_dashboard(page)
        before = page.locator(SERVING).inner_text()
        # A mark that a reload would wipe out: the page must change, not be fetched anew.
        page.evaluate("window.sameDocument = true")
        page.wait_for_function(
            "([selector, before]) => document.querySelector(selector).textContent !== before",
            arg=[SERVING, before],
            timeout=CHANGES_SECS_MAX * 1000,
        )
        assert page.evaluate("window.sameDocument === true"), "the page was loaded again"
        assert page.locator(f"{POOL} .decision").count() > 0, "a count changed and no decision is shown"
        if wanted():
            # The picture shows a whole tide: the pool has grown, and most of it is gone again.
            for condition in (">= 5", "<= 3"):
                page.wait_for_function(
                    f"selector => Number(document.querySelector(selector).textContent) {condition}",
                    arg=SERVING,
                    timeout=CHANGES_SECS_MAX * 1000,
                )
            page.set_viewport_size({"width": 1280, "height": 1150})
            screenshot(page, "dashboard")


def test_dashboard_fits_a_phone():
    with open_page(PHONE) as page:
        open_dashboard(page)
        assert_fits(page)
        # With every decision opened it must still fit.
        page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
        assert_fits(page)
        screenshot(page, "dashboard-phone")


def changed(status):
    """The demo's status, with a signal over its target, hosts that warm up, and problems."""
    pool = status["pools"][0]
    pool.update(serving=5, last_error="destroy api-7: failed: 403 forbidden", problems=["droplet 99 (api-99): its networks are null"])
    pool["signals"] = [
        {"name": "requests", "state": "fresh", "value": 65.0, "target": 57.0, "age_secs": 3.0, "hosts_fresh": 3, "hosts_expected": 3, "detail": None}
    ]
    for member in pool["members"]:
        member.update(state="serving", signals={"requests": 65.5})
    pool["members"].append({**pool["members"][0], "id": "99", "name": "api-99", "state": "unknown", "created_at": 0, "address": None, "signals": {}})
    return status


def test_what_is_shown_is_what_is_there():
    with open_page(PHONE) as page:

        def answer(route):
            answered = route.fetch()
            route.fulfill(response=answered, json=changed(answered.json()))

        open_dashboard(page)
        page.route("**/api/status", answer)
        page.wait_for_selector(f'{POOL} [data-field="problems"]')
        assert "api-7" in page.locator(f'{POOL} [data-field="failing"]').inner_text()
        signal = page.locator(f'{POOL} [data-signal="requests"]')
        words = signal.inner_text()
        assert "114 % of the target 57 requests/s, from 3 of 3 hosts, 2 more warming up" in words, words
        # Over its target the bar is full.
        meter, bar = (signal.locator(part).bounding_box()["width"] for part in (".meter", ".meter rect"))
        assert abs(meter - bar) < 1, f"{bar} of {meter}"
        member = page.locator(f'{POOL} [data-member="api-99"]')
        assert "Unknown" in member.inner_text()
        value = page.locator(f"{POOL} [data-member] td", has_text="65.5 requests/s").first
        assert value.evaluate("cell => getComputedStyle(cell, '::before').content") == "none"
        assert_fits(page)


def test_status_page_is_whole_without_a_network():
    for path in ("/", "/app.js", "/style.css"):
        with urllib.request.urlopen(ADDRESS + path, timeout=10) as answer:
            text = answer.read().decode()
        for outside in ("src=\"http", "href=\"http", "@import", "url(http"):
            assert outside not in text, f"{path} refers to something outside: {outside}"


sys.exit(tests.run(globals()))
