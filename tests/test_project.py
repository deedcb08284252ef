"""Rules of the house that a machine can check."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import cv2
import matrix
import pytest
from conftest import ROOT, TINY

PURE = ("losses.py", "diffaugment.py", "clock.py", "counter_rng.py", "counter_rng_torch.py")
SOURCES = sorted((ROOT / "src/faceforge").rglob("*.py"))


def imports(path):
    """Names of all modules that a file imports, wherever it does."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def relative(path):
    return path.relative_to(ROOT / "src/faceforge").as_posix()


def test_exactly_one_opencv_and_it_is_the_one_that_is_imported():
    found = [d for d in metadata.distributions() if d.metadata["Name"].lower().startswith("opencv")]
    assert [d.metadata["Name"] for d in found] == ["opencv-python-headless"]
    assert found[0].version.startswith(cv2.__version__)
    assert Path(cv2.data.haarcascades, "haarcascade_frontalface_default.xml").is_file()


def test_who_imports_what():
    for path in SOURCES:
        names, where = set(imports(path)), relative(path)
        roots = {name.split(".")[0] for name in names}
        assert "lightning" not in roots, where
        if where.startswith(("networks/", "metrics/", "io/", "drawn/")) or where in PURE:
            assert not roots & {"pytorch_lightning", "hydra", "omegaconf"}, where
        if where != "main.py" and not where.startswith("config/"):
            assert "hydra" not in roots, where


# Each part of the package uses those after it, never those before.
FLOORS = (
    *(
        "cli",
        "doctor",
        "notebook",
        "studio",
        "main",
        "evaluation",
        "runs",
        "engine",
        "cut",
        "fetch",
        "schemes",
        "report",
        "data",
    ),
    *("metrics", "networks", "config", "losses", "diffaugment", "drawn", "io"),
    *("counter_rng_torch", "counter_rng", "clock", "schedules", "words", "errors", "types"),
)


def test_imports_point_downwards():
    parts = {path.relative_to(ROOT / "src/faceforge").parts[0].removesuffix(".py") for path in SOURCES}
    assert parts - {"__init__"} == set(FLOORS)
    for path in SOURCES:
        part = relative(path).split("/")[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or (node.module or "").split(".")[0] != "faceforge":
                continue
            inner = node.module.split(".")[1:2] or [alias.name for alias in node.names]
            assert all(FLOORS.index(part) <= FLOORS.index(name) for name in inner), (relative(path), inner)


def test_types_at_the_seams():
    """No attribute tells what a thing is, and what goes from part to part has a type."""
    lines = [(relative(path), line) for path in SOURCES for line in path.read_text().splitlines()]
    assert [found for found in lines if "hasattr" in found[1]] == []
    things = "data|module|model|run|task|faces|network|image|images|batch|outputs|schedule|stop|strategy|job|work"
    typed = [found for found in lines if re.search(rf"\b({things}): Any\b", found[1])]
    assert typed == []
    assert sum("dict[str, Any]" in line for _, line in lines) <= 80


def test_nobody_asks_which_task_or_model_it_is():
    """A task says of itself what others need to know; outside data/tasks.py none is told by its class or name."""
    tasks = ast.parse((ROOT / "src/faceforge/data/tasks.py").read_text())
    classes = {node.name for node in tasks.body if isinstance(node, ast.ClassDef)} - {"Task"}
    names = {path.stem for group in ("task", "model") for path in (ROOT / "conf" / group).rglob("*.yaml")}
    assert {"SuperResolution", "OpenCVTask"} <= classes
    assert {"super_resolution", "latent_editor", "tutorial"} <= names
    for path in SOURCES:
        if relative(path) != "data/tasks.py":
            asked = list(questions(ast.parse(path.read_text()), classes, names))
            assert asked == [], relative(path)


def questions(tree, classes, names):
    """Expressions that ask for the class of a task, or for the name of a task or model."""
    for node in ast.walk(tree):
        text, inner = ast.unparse(node) if isinstance(node, ast.expr) else "", list(ast.walk(node))
        known = {getattr(n, "id", getattr(n, "attr", None)) for n in inner}
        words = {n.value for n in inner if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        is_class = isinstance(node, ast.Call) and text.startswith(("isinstance(", "issubclass(")) and classes & known
        whose = re.search(r"\b(task|model|choices)(\.name\b|\b(?!\.)|\[)", text)
        is_name = isinstance(node, ast.Compare) and whose and names & words
        is_table = isinstance(node, ast.Subscript | ast.Call) and re.search(r"(\[|\.get\()[\w.]*task\.name\b", text)
        if is_class or is_name or is_table:
            yield text


@pytest.mark.parametrize(
    "line",
    [
        'task.name == "noise"',
        'self.task.name in ("average", "noise")',
        'choices["task"] == "none"',
        "isinstance(data.task, tasks.SuperResolution)",
        "LIMITS.get(model.task.name, FALLBACK)",
        "LIMITS[task.name]",
        'config["choices"]["model/generator"] == "taught"',
        'model.name != "latent_editor"',
    ],
)
def test_such_questions_are_seen(line):
    names = {"noise", "average", "none", "taught", "latent_editor"}
    assert list(questions(ast.parse(line), {"SuperResolution"}, names))


def test_nothing_loads_unsafely():
    text = "\n".join(path.read_text() for path in SOURCES)
    assert "weights_only=False" not in text
    calls = re.findall(r"torch\.load\([^\n]*", text)
    assert calls
    assert all("weights_only=True" in call for call in calls)


def test_bad_releases_are_excluded():
    required = {r.split(";")[0].strip() for r in metadata.requires("faceforge") or []}
    names = {re.split(r"[<>=!~\[ ]", r)[0].lower() for r in required}
    assert "pytorch-lightning" in names
    assert "lightning" not in names
    assert not names & {"opencv-python", "opencv-contrib-python"}
    assert any(r.startswith("hydra-core") and "<1.4" in r for r in required)


def test_functions_stay_short():
    """No function above 40 lines in the package, its docstring included; the median is at most 7."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    lengths = {
        f"{relative(path)}:{node.name}": node.end_lineno - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds)
    }
    longest = max(lengths, key=lengths.get)
    assert lengths[longest] <= 40, (longest, lengths[longest])
    assert sorted(lengths.values())[len(lengths) // 2] <= 7


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_every_page_is_found_from_the_readme():
    found, new = set(), {ROOT / "README.md"}
    while new:
        found |= new
        linked = {place(page, link) for page in new for link in links(page) if link.endswith(".md")}
        new = linked - found
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= {page.name for page in found}


def links(page):
    return [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()) if not link.startswith("http")]


def place(page, link):
    return Path(os.path.normpath(page.parent / link))


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for link in links(page):
        assert place(page, link).exists(), link


PAGES = [
    "README.md",
    *(f"docs/{name}.md" for name in ("install", "train", "photos", "data", "use", "evaluate", "published")),
]


def test_the_pages_name_only_what_exists():
    from faceforge import config

    readme = "\n".join((ROOT / page).read_text() for page in PAGES)
    commands = re.findall(r"^python train\.py(.*?)(?:\s+#.*)?$", readme, re.MULTILINE)
    assert len(commands) >= 30
    for command in commands:
        overrides = [word for word in command.split() if not word.startswith("-")]
        assert config.check_overrides(overrides, multirun="-m" in command.split()) == [], command
    described = subprocess.run([sys.executable, "-c", "from faceforge.cli import run; run()"], capture_output=True)
    offered = set(re.findall(r"^  ([a-z]+)  ", described.stdout.decode(), re.MULTILINE))
    named = set(re.findall(r"^faceforge ([a-z]+)", readme, re.MULTILINE))
    assert named == offered - {"train"}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        set(re.findall(r"`make ([a-z-]+)`", readme)) | set(re.findall(r"^make ([a-z-]+)", readme, re.MULTILINE))
        <= targets
    )


def test_every_yaml_can_be_chosen():
    from faceforge import config

    for path in (ROOT / "conf").glob("*/*.yaml"):
        group, name = path.parent.name, path.stem
        if (group, name) == ("data", "base"):
            continue
        model = ["model=pix2pix"] if group == "task" and name != "none" else []
        assert config.check_overrides([f"{group}={name}", *model]) == [], path


@pytest.mark.slow
def test_the_wheel_trains_without_the_checkout(tmp_path):
    """conf/ ships inside: an installed package composes and trains."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    wheel = next(tmp_path.glob("*.whl"))
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    for name in ("conf/train.yaml", "report/templates/report.html.j2", "cut/templates/index.html.j2"):
        assert (tmp_path / "site/faceforge" / name).is_file(), name
    command = [sys.executable, "-c", "from faceforge.main import main; main()", *TINY, f"run_dir={tmp_path / 'run'}"]
    done = subprocess.run(command, cwd=tmp_path / "site", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/report.html").is_file()


def test_the_platforms_of_the_readme_are_those_that_were_tried():
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    recorded = list((ROOT / "docs/results/records").glob("gpu_*.json"))
    assert ("not yet run on CUDA" in rows["NVIDIA GPUs"]) == (not recorded)
    assert f"Python {', '.join(matrix.supported())}" in rows
    assert f"{matrix.supported()[0]} with the oldest" in rows[f"Python {', '.join(matrix.supported())}"]


def test_a_python_that_is_missing_fails_the_matrix_in_one_line(capsys):
    assert matrix.whole(["3.99"]) == 1
    assert capsys.readouterr().out == "Python 3.99: not found\n"
    assert matrix.find(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_the_gate_goes_on_where_there_is_no_other_python(monkeypatch, capsys):
    monkeypatch.setattr(matrix, "run", lambda *_, **__: True)
    monkeypatch.setattr(matrix, "uv", lambda: "uv")
    monkeypatch.setattr(matrix, "find", lambda version: None)
    assert matrix.smoke() == 0
    assert "nothing else is tried" in capsys.readouterr().out
