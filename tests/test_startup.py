"""The time to the first result, by stage: every second is in one of them, and what comes later is in none."""

import io
import subprocess
import sys
import time

from alt_ray.engine.progress import Progress
from alt_ray.engine.startup import Startup, process_age_s
from tests.test_progress import Terminal


def test_stages_add_up_to_the_time_to_the_first_result() -> None:
    begun_s = time.monotonic()
    startup = Startup("before", 100.0)
    assert startup.total_s is None
    assert startup.as_json() is None
    time.sleep(0.06)
    startup.end("waking")
    startup.end("nothing")
    time.sleep(0.06)
    startup.finish("first clips")
    passed_s = time.monotonic() - begun_s
    assert startup.total_s is not None
    assert 100.12 <= startup.total_s <= 100 + passed_s
    assert list(startup.seconds) == ["before", "waking", "nothing", "first clips"]
    assert str(startup) == f"first result after {startup.total_s:.1f} s: 100.0 before, 0.1 waking, 0.1 first clips"
    startup.end("later")
    assert list(startup.seconds) == ["before", "waking", "nothing", "first clips"]


def test_a_process_knows_its_age() -> None:
    program = "import time; time.sleep(0.3); from alt_ray.engine.startup import process_age_s; print(process_age_s())"
    begun_s = time.monotonic()
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 0.3 <= float(said) <= time.monotonic() - begun_s + 0.02  # the system counts in hundredths
    assert process_age_s() > 0


def test_what_is_said_on_the_way_stays_in_logs_and_on_terminals() -> None:
    for stream, expected in ((Terminal(), "\rfirst\x1b[K\n"), (io.StringIO(), "first\n")):
        Progress("label", 3, stream=stream).say("first")
        assert stream.getvalue() == expected
    stream = io.StringIO()
    Progress("label", 3, stream=stream, quiet=True).say("first")
    assert stream.getvalue() == ""
