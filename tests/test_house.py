"""The counts of benchmarks/house.py and benchmarks/speed/first_gradient.py, on a few lines of which they are known."""

import sys

import pytest

from benchmarks import house
from benchmarks.speed.first_gradient import Trace

SCRIPT = """
import runpy, torch
from pathlib import Path
run = lambda name: runpy.run_path(str(Path(__file__).with_name(name)))
run("idle.py"), run("empty.py")
used = run("used.py")
used["once"](), used["once"]()
{gradient}
run("later.py")
"""
USED = "class A:\n    x = 1\ndef once(): return [n for n in range(2)]\ndef never(): pass\n"


@pytest.fixture
def trace(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    for name, text in {"idle.py": "x = 1", "used.py": USED, "empty.py": "", "later.py": "x = 2"}.items():
        (tmp_path / name).write_text(text)
    return Trace(tmp_path, ("script.py", "idle.py", "used.py", "empty.py", "later.py", "a.yaml"))


@pytest.mark.parametrize(
    "gradient",
    [
        "torch.ones(1, requires_grad=True).backward()",
        "torch.autograd.grad(torch.ones(1, requires_grad=True) * 2, [])",
    ],
)
def test_files_stand_in_order_until_the_first_gradient(trace, gradient):
    (trace.root / "script.py").write_text(SCRIPT.format(gradient=gradient))
    trace.opened("open", (str(trace.root / "a.yaml"), "r", 0))
    trace.watch(trace.root / "script.py", [])
    assert {name: len(called) for name, called in trace.files.items()} == {
        "a.yaml": 0,
        "script.py": 1,
        "idle.py": 0,
        "used.py": 1,
    }
    assert [line.split() for line in trace.lines()] == [
        ["1", "a.yaml", "read"],
        ["2", "script.py", "1", "functions"],
        ["3", "idle.py", "imported"],
        ["4", "used.py", "1", "functions"],
        ["files_before_first_gradient", "4"],
        ["python", "3,", "of", "which", "2", "had", "functions", "called,", "1", "were", "only", "imported"],
    ]
    assert sys.getprofile() is None


def test_a_script_without_a_gradient_is_told(trace):
    (trace.root / "script.py").write_text(SCRIPT.format(gradient=""))
    with pytest.raises(RuntimeError, match=r"script\.py asked for no gradient"):
        trace.watch(trace.root / "script.py", [])


def test_the_counts_of_a_package(tmp_path):
    package = tmp_path / "box"
    for name, text in {
        "a.py": "from box.b import f\nclass A:\n    data: Any\n    def g(self, module: Any, x: Any):\n        pass\n",
        "b/__init__.py": "def f(plan: dict[str, Any]):\n    from box import c\n\n    return hasattr(c, 'x')\n",
        "c.py": "from box.a import A\ndef _run() -> Any: return 1\n",
        "cut/d.py": "from box.a import A\n",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    assert house.counts(package) == {
        "core_lines": 11,
        "functions": 3,
        "median_length": 2,
        "max_length": "4 (b/__init__.py:f)",
        "hasattr": 1,
        "dict_str_any": 1,
        "untyped_seams": 3,
        "import_circles": 1,
    }
