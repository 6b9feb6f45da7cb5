"""What every test shares: how hard Hypothesis tries, a Ctrl-C that can be tried, and compiled modules for child processes.

Four profiles, chosen by ``HYPOTHESIS_PROFILE``, by ``CI=true`` otherwise: ``default`` looks for something
new at every run, ``ci`` repeats the same examples so that a red run is red again, ``thorough`` takes its time,
``mutants`` repeats the same examples and stops at the first that fails, for nobody reads what it would shrink to.
No example has a deadline: the machines that run this are busy, and slowness is what the benchmarks judge.

Whoever starts the tests in the background of a script, as CI may, starts them with Ctrl-C ignored, and every program they start
inherits that. What Ctrl-C does to a program is among the tests, so they give it back its meaning.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

from hypothesis import HealthCheck, Phase, settings

SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=SLOW_IS_FINE)
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile(
    "mutants",
    parent=settings.get_profile("ci"),
    database=None,
    print_blob=False,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=5_000)


def profile_name(environment: dict[str, str]) -> str:
    """The profile to load: asked for by name, else by where the tests run."""
    fallback = "ci" if environment.get("CI", "").lower() in {"1", "true"} else "default"
    return environment.get("HYPOTHESIS_PROFILE") or fallback


settings.load_profile(profile_name(dict(os.environ)))

# Where Python is told to keep no bytecode, each of many servers would compile everything at its start: three times the work.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", "") and "PYTHONPYCACHEPREFIX" not in os.environ:
    os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="waymaker-bytecode-")
    atexit.register(shutil.rmtree, os.environ["PYTHONPYCACHEPREFIX"], ignore_errors=True)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
