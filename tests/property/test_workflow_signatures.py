"""Signatures with links, errbacks, maps and chunks are the maps that Celery's would be."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import pytest
from hypothesis import HealthCheck, given, settings
from kombu.utils.json import dumps
from workflows.building import Api, build, celery_api, fastq_api
from workflows.journal import Journal
from workflows.strategies import workflows
from workflows.tasks import define

from fastq import FastQ


@pytest.fixture
def apis(tmp_path: Path) -> Iterator[tuple[Api, Api]]:
    """Ours and Celery's."""
    peer = celery.Celery("flows", broker="memory://", backend="cache+memory://", set_as_current=False)
    journal = Journal(tmp_path / "journal")
    with FastQ("flows", broker="memory://", set_as_current=False) as app:
        found = fastq_api(app), celery_api(peer)
        for api in found:
            define(api, journal)
        yield found
    peer.close()
    journal.close()


def written(api: Api, node: Any) -> Any:
    """The signature of *node*, as it is in a message."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of errbacks of chords
        return json.loads(dumps(build(api, node, "w")))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(node=workflows())
def test_signatures_are_celerys_maps(node: Any, apis: tuple[Api, Api]) -> None:
    ours, theirs = apis
    assert written(ours, node) == written(theirs, node)
