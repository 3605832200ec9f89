"""What several tests share."""

import importlib.machinery
import importlib.util
import pathlib
import sys

import pytest

HOST_FACTS = pathlib.Path(__file__).parents[2] / "roles/base/files/host-facts"


@pytest.fixture(scope="module")
def host_facts():
    """The program as a module, which waits for nothing."""
    sys.path.insert(0, str(HOST_FACTS.parent))
    loader = importlib.machinery.SourceFileLoader("host_facts", str(HOST_FACTS))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("host_facts", loader))
    loader.exec_module(module)
    module.PAUSE_SECS = 0.01
    return module
