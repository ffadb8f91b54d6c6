"""Measures where the time of a test run goes, as a pytest plugin: `--times FILE`.

Each test has the seconds of its phases, and of these what jax took to trace, lower and compile, what its
child processes took of the processor, and the fixtures that it built. `tools/test_times.py` makes tables.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import resource
import time

import pytest

BUILD = pathlib.Path(__file__).parents[1] / "build"
# Events of jax.monitoring and what they are; loading from the compile cache counts as compiling.
_JAX_EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}


class Times:
    """Gathers the times of the phases of all tests; the process with a file gathers those of all workers."""

    def __init__(self, file: pathlib.Path | None):
        self._file = file
        self._started = time.time()
        self._causes = collections.Counter()
        self._children = _children_seconds()
        self._fixtures: list[tuple[str, float]] = []
        self._tests: dict[str, dict] = {}

    def listen(self, event: str, duration: float, **_) -> None:
        """Counts an event of `jax.monitoring`."""
        if event in _JAX_EVENTS:
            self._causes[_JAX_EVENTS[event]] += duration

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        start = time.perf_counter()
        try:
            return (yield)
        finally:
            name = f"{fixturedef.baseid}::{fixturedef.argname}" if fixturedef.baseid else fixturedef.argname
            self._fixtures.append((name, time.perf_counter() - start))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self):
        report = yield
        children = _children_seconds()
        report.causes = dict(self._causes, children=children - self._children)
        report.fixtures = self._fixtures
        self._causes.clear()
        self._children, self._fixtures = children, []
        return report

    def pytest_runtest_logreport(self, report):
        test = self._tests.setdefault(report.nodeid, {"phases": {}, "causes": {}, "fixtures": []})
        test["phases"][report.when] = report.duration
        test["worker"] = getattr(report, "worker_id", "main")
        test["outcome"] = report.outcome if report.when == "call" else test.get("outcome", report.outcome)
        for cause, seconds in getattr(report, "causes", {}).items():  # a worker that crashed measured none
            test["causes"][cause] = test["causes"].get(cause, 0) + seconds
        test["fixtures"] += getattr(report, "fixtures", [])

    def pytest_sessionfinish(self, session):
        if self._file is None or not self._tests:
            return
        run = {
            "arguments": list(session.config.invocation_params.args),
            "cores": os.cpu_count(),
            "seconds": time.time() - self._started,
            "tests": self._tests,
        }
        self._file.parent.mkdir(exist_ok=True)
        partial = self._file.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(run))
        partial.replace(self._file)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pytest_addoption(parser):
    parser.addoption("--times", type=pathlib.Path, default=BUILD / "test_times.json", metavar="FILE")


def pytest_configure(config):
    import jax

    times = Times(None if hasattr(config, "workerinput") else config.getoption("times"))
    config.pluginmanager.register(times, "times")
    jax.monitoring.register_event_duration_secs_listener(times.listen)
