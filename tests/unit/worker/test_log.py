"""What the worker says must not be able to fail a call."""

import io
import os
import sys

import pytest

from lakeport.worker.log import say


def test_a_broken_descriptor_silences_the_worker_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readable, writable = os.pipe()
    os.close(readable)
    with io.TextIOWrapper(os.fdopen(writable, "wb", buffering=0), write_through=True) as stream:
        monkeypatch.setattr(sys, "__stderr__", stream)

        say("nobody hears this")

        assert not stream.closed


def test_a_closed_stream_does_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  it is closed below
    stream.close()
    monkeypatch.setattr(sys, "__stderr__", stream)

    say("nobody hears this either")

    assert stream.closed
