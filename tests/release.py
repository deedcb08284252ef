"""Check what `make release` has built, and print the notes of its version from CHANGELOG.md.

    python tests/release.py             dist/ holds one wheel and one sdist of this version, complete
    python tests/release.py --install   also installs the wheel into an empty environment and trains a tiny model there

Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

import matrix

ROOT = Path(__file__).parents[1]
IN_WHEEL = (
    *("faceforge/cli.py", "faceforge/conf/train.yaml", "faceforge/report/templates/report.html.j2"),
    *("faceforge/cut/templates/index.html.j2", "faceforge/studio/drawn/pix2pix.safetensors"),
)
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "train.py", "conf/train.yaml")
PHOTOS = re.compile(r"\.(jpe?g|heic|avif|webp)$", re.IGNORECASE)


def main() -> int:
    """0, or 1 after one line per fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="the folder of what was built")
    parser.add_argument("--install", action="store_true")
    asked = parser.parse_args()
    faults = list(found(asked.dist))
    if not faults and asked.install and not installs(next(asked.dist.glob("*.whl"))):
        faults.append("the wheel does not train in an empty environment")
    print("\n".join(f"release: {fault}" for fault in faults) or notes(), file=sys.stderr if faults else sys.stdout)
    return int(bool(faults))


def version() -> str:
    """The version that the sources name."""
    text = (ROOT / "src/faceforge/__init__.py").read_text()
    return re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]


def notes(changelog: str | None = None) -> str:
    """The section of this version in CHANGELOG.md; empty where there is none."""
    text = changelog if changelog is not None else (ROOT / "CHANGELOG.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return next(("## " + part.strip() for part in sections if part.split()[0] == version()), "")


def found(dist: Path) -> list[str]:
    """What is wrong with what was built."""
    faults = []
    wheels, sources = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    for kind, built in (("wheel", wheels), ("sdist", sources)):
        if len(built) != 1 or f"faceforge-{version()}" not in built[0].name:
            faults.append(f"{dist}: {[path.name for path in built]}; must be one {kind} of version {version()}")
    if not notes():
        faults.append(f"CHANGELOG.md: no section of version {version()}")
    if faults:
        return faults
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wheel.namelist()
        faults += [f"{wheels[0].name}: lacks {name}" for name in IN_WHEEL if name not in names]
    with tarfile.open(sources[0]) as archive:
        within = [name.partition("/")[2] for name in archive.getnames()]
        faults += [f"{sources[0].name}: lacks {name}" for name in IN_SDIST if name not in within]
    return faults + [f"a photo: {name}" for name in [*names, *within] if PHOTOS.search(name)]


def installs(wheel: Path) -> bool:
    """Whether a wheel installs into an empty environment, and trains outside the checkout."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(Path(folder) / "env", with_pip=True)
        program = Path(folder) / "env" / "bin"
        steps = [
            [program / "pip", "install", "-q", wheel],
            [program / "faceforge", "train", *matrix.TINY, "run_dir=run", "data.cache=cache"],
        ]
        done = all(subprocess.run(step, cwd=folder).returncode == 0 for step in steps)
        return done and (Path(folder) / "run" / "report.html").is_file()


if __name__ == "__main__":
    sys.exit(main())
