"""A second run of each image's playbook, on a clone of it. The last file: the runs begin with test_pool, which mostly waits."""

import re

import pytest
from conftest import IMAGES


@pytest.mark.parametrize("name", IMAGES)
def test_the_second_run_changes_nothing(second_runs, name):
    assert re.search(r"\bchanged=0\b.*\bfailed=0\b", second_runs[name].result())
