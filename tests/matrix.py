"""Install and test on other Pythons: each with the newest dependencies, the oldest with the oldest ones as well.

    python tests/matrix.py [VERSION ...]     all that pyproject.toml names, or the named ones (`make matrix`)
    python tests/matrix.py --smoke           dependencies resolved for the first and last; one of them tried (.ci/run)

Environments lie under build/matrix. Needs nothing but the standard library; uv is installed into one of them.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "matrix"
OLDEST, NEWEST = "lowest-direct", "highest"
TRIED = """
import importlib, pkgutil, faceforge
for module in pkgutil.walk_packages(faceforge.__path__, "faceforge."):
    if module.name != "faceforge.studio.onnx_use":  # needs an extra
        importlib.import_module(module.name)
"""
TINY = [
    "data.size=8",
    "data.source.count=60",
    "data.batch_size=4",
    "model.generator.width=4",
    "model.generator.max_width=4",
    "model.generator.latent_size=3",
    "model.discriminator.width=4",
    "model.discriminator.max_width=4",
    "model.val_samples=0",
    "trainer.gpus=0",
    "trainer.max_images=16",
    "logger.mode=disabled",
]


def main() -> int:
    """The number of environments that failed or could not be made, as an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=supported(), help="such as 3.10; default: all")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--find", metavar="NAME", help="print the path of a Python that starts, such as python3.10")
    asked = parser.parse_args()
    if asked.find:
        return named(asked.find)
    return smoke() if asked.smoke else whole(asked.versions)


def supported() -> list[str]:
    """The Pythons that pyproject.toml names, oldest first."""
    found = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    return sorted(found, key=lambda version: int(version[2:]))


def whole(versions: list[str]) -> int:
    """Install and test on each of ``versions``."""
    failed = [f"Python {version}: not found" for version in versions if not find(version)]
    legs = [(version, NEWEST) for version in versions]
    legs += [(version, OLDEST) for version in versions[:1] if version == supported()[0]]
    for version, resolution in legs:
        if find(version) and not (install(version, resolution, ".[dev]") and tests(version, resolution)):
            failed.append(f"Python {version}, {resolution}: failed")
    print("\n".join(failed) or f"all of {len(legs)} environments pass", flush=True)
    return len(failed)


def smoke() -> int:
    """Resolve for the oldest and newest Python, then import, configure and train on one that is not this one."""
    first, last = supported()[0], supported()[-1]
    for version, resolution in ((first, OLDEST), (last, NEWEST)):
        how = ["--python-version", version, "--resolution", resolution, "--extra", "dev"]
        resolve = [uv(), "pip", "compile", "-q", "pyproject.toml", *how]
        if not run(resolve, f"resolve for Python {version}, {resolution}", quiet=True):
            return 1
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version, resolution in ((first, OLDEST), (last, NEWEST)):
        if version != here and find(version):
            return 0 if install(version, resolution, ".") and tries(version, resolution) else 1
    print(f"matrix: neither Python {first} nor {last} was found beside this one ({here}); nothing else is tried")
    return 0


def named(name: str) -> int:
    """Print the Python of a name: itself, or where it does not start the one of its version."""
    if not asked_of(name):
        name = find(name.rpartition("python")[2]) or ""
    print(name or "matrix: no such Python", file=sys.stdout if name else sys.stderr)
    return 0 if name else 1


def find(version: str) -> str | None:
    """The path of a Python, from PATH or pyenv; None where there is none that starts."""
    on_path = [name for name in [shutil.which(f"python{version}")] if name]
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True).stdout.split()
        for name in (name for name in listed if name.startswith(f"{version}.")):
            prefix = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True).stdout.strip()
            on_path.append(f"{prefix}/bin/python")
    for python in on_path:
        if (said := asked_of(python)) and said[0] == version:
            return said[1]
    return None


def asked_of(python: str) -> list[str]:
    """Version and path, by its own account; empty where it does not start, as pyenv's shims of other versions do."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"
    try:
        return subprocess.run([python, "-c", ask], capture_output=True, text=True).stdout.splitlines()
    except OSError:
        return []


def uv() -> str:
    """uv, installed into an environment of its own."""
    place = PLACE / "uv"
    if not (place / "bin" / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin" / "pip", "install", "-q", "uv"], check=True)
    return str(place / "bin" / "uv")


def install(version: str, resolution: str, what: str) -> bool:
    """Make an environment with faceforge in it."""
    place, python = environment(version, resolution), str(find(version))
    shutil.rmtree(place, ignore_errors=True)
    into = ["--python", str(place / "bin" / "python"), "--resolution", resolution]
    return run([uv(), "venv", "-q", "--python", python, str(place)], f"make {place.name}") and run(
        [uv(), "pip", "install", "-q", *into, "-e", what], f"install {place.name}"
    )


def environment(version: str, resolution: str) -> Path:
    """Where an environment lies."""
    return PLACE / f"{version}-{resolution}"


def tests(version: str, resolution: str) -> bool:
    """Run the tests of every day."""
    python = str(environment(version, resolution) / "bin" / "python")
    pytest = [python, "-m", "pytest", "-n", "auto", "--dist", "loadfile"]
    simulated = run([*pytest, "-m", "simulated and not slow"], f"simulated {version}-{resolution}")
    return run(pytest, f"test {version}-{resolution}") and simulated


def tries(version: str, resolution: str) -> bool:
    """Import every module, print a configuration and a command's help, train a tiny model."""
    python, name = str(environment(version, resolution) / "bin" / "python"), f"{version}-{resolution}"
    with tempfile.TemporaryDirectory() as folder:
        train = [python, "train.py", *TINY, f"run_dir={folder}/run", f"data.cache={folder}/cache"]
        return (
            run([python, "-c", TRIED], f"import on {name}")
            and run([python, "train.py", "--cfg", "job"], f"configure on {name}", quiet=True)
            and run(
                [python, "-c", "from faceforge.cli import run; run()", "filters", "--help"],
                f"help on {name}",
                quiet=True,
            )
            and run(train, f"train on {name}")
        )


def run(command: list[str], what: str, quiet: bool = False) -> bool:
    """Whether a command succeeds; says what it is for."""
    print(f"matrix: {what}", flush=True)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL if quiet else None)
    if done.returncode:
        print(f"matrix: {what} FAILED", flush=True)
    return not done.returncode


if __name__ == "__main__":
    sys.exit(main())
