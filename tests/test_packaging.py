"""What an installation without the native core says and does, and that what is built is pinned.

`.ci/packages` builds and installs real packages; here the same answers are asked of processes in
which the core is hidden, missing or broken.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]

HIDDEN = "import os; os.environ['SOLOMONIC_NATIVE'] = '0'"
MISSING = "import sys; sys.modules['solomonic._native'] = None"
BROKEN = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'solomonic._native':
            raise ImportError('undefined symbol: slm_read')
sys.meta_path.insert(0, Finder())
"""
REASONS = {
    HIDDEN: "SOLOMONIC_NATIVE=0",
    MISSING: "install g++",
    BROKEN: "undefined symbol: slm_read",
}


ASK = """
import json
import torch
from solomonic import LanguageModel, ModelConfig
from solomonic.core import ConfigError
from solomonic.kernels import native, registry
from solomonic.lm.native import NativeModel

assert native.load() is None
torch.manual_seed(0)
model = LanguageModel(ModelConfig(pattern='MB', hidden_size=32, window_size=4, eidetic_slots=4))
with registry.watch() as paths:
    logits, _ = model(torch.randint(257, (2, 12)))
logits.sum().backward()
assert logits.isfinite().all()
try:
    NativeModel(model)
    refusal = None
except ConfigError as error:
    refusal = str(error)
print(json.dumps([native.why_not(), paths, refusal]))
"""


@pytest.mark.parametrize("hide", REASONS, ids=["hidden", "missing", "broken"])
def test_without_the_core_everything_runs_on_torch_and_says_why(hide: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{hide}\n{ASK}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    why_not, paths, refusal = json.loads(done.stdout)
    reason = REASONS[hide]
    assert reason in why_not
    assert why_not.endswith(".")
    assert "\n" not in why_not
    assert reason in refusal
    assert not [path for path in paths if re.match(r"\w+: (native|triton)\b", path)]
    ssd = next(path for path in paths if path.startswith("ssd: "))
    assert ssd.startswith("ssd: torch")
    assert reason in ssd


def pins() -> dict[str, str]:
    """Package -> the version that constraints.txt names."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in found}


def requirements() -> list[Requirement]:
    """All that the project asks for, building included."""
    texts = PROJECT["build-system"]["requires"] + PROJECT["project"]["dependencies"]
    texts += [text for extra in EXTRAS.values() for text in extra]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_what_is_asked_for_is_pinned_within_its_range(requirement: Requirement) -> None:
    if requirement.name == "solomonic":
        assert requirement.extras <= set(EXTRAS)
        return
    version = pins()[requirement.name.lower().replace("_", "-")]
    assert requirement.specifier.contains(version)


def test_all_means_all() -> None:
    assert Requirement(EXTRAS["all"][0]).extras == set(EXTRAS) - {"all"}


def test_an_installation_is_built_again_when_native_sources_change() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    target = re.search(r"^\$\(VENV\)/\.installed:(.*)$", makefile, re.M)
    assert target is not None
    assert "$(NATIVE)" in target[1]
