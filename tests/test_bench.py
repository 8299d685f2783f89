"""Every benchmark runs in its quick form and ends with one JSON object."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


BENCHES = sorted((ROOT / "tools" / "bench").glob("*.py"))


def quick(bench):
    done = subprocess.run(
        [sys.executable, bench, "--quick"], capture_output=True, text=True, check=True, timeout=120
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("bench", BENCHES, ids=lambda path: path.stem)
def test_quick_form(bench):
    found = quick(bench)
    assert found["name"] == bench.stem and found["over"] and found["ratio"] > 0
    if bench.stem == "pipeline":  # far below what an idle machine gives, so that a busy one passes
        assert found["ratio"] > 5 and found["waiting_share_of_step"] < 0.1
