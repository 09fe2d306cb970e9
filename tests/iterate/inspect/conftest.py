"""One MongoDB for all tests here, with data that are thrown away; FiftyOne connected to it."""

import os
import shutil
import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.iterate.inspect import mongo


@pytest.fixture(scope="session")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """FiftyOne with a real MongoDB; skips where either is not installed."""
    binary = mongo.find()
    if binary is None:
        pytest.skip("no fiftyone, or no MongoDB beside it")
    home = tmp_path_factory.mktemp("fiftyone")
    with mongo.running(binary, home / "db") as uri:
        names = {
            "HOME": str(home),
            "FIFTYONE_DATABASE_URI": uri,
            "FIFTYONE_DATABASE_DIR": str(home / "db"),
            "FIFTYONE_DO_NOT_TRACK": "true",
            "FIFTYONE_LOGGING_LEVEL": "ERROR",
            "FIFTYONE_SHOW_PROGRESS_BARS": "false",
        }
        before = {name: os.environ.get(name) for name in names}
        os.environ.update(names)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of its own dependencies
                import fiftyone as module

                module.list_datasets()
            yield module
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
    shutil.rmtree(home, ignore_errors=True)
