"""What `make release` checks, on archives that are whole and on archives that lack something."""

import io
import tarfile
import zipfile

import pytest
import release


@pytest.fixture
def dist(tmp_path):
    """Archives as `python -m build` names them, with the files that must be in them."""
    name = f"faceforge-{release.version()}"
    with zipfile.ZipFile(tmp_path / f"{name}-py3-none-any.whl", "w") as wheel:
        for inner in release.IN_WHEEL:
            wheel.writestr(inner, "")
    packed(tmp_path / f"{name}.tar.gz", release.IN_SDIST)
    return tmp_path


def packed(path, names):
    with tarfile.open(path, "w:gz") as archive:
        for inner in names:
            archive.addfile(tarfile.TarInfo(f"faceforge-{release.version()}/{inner}"), io.BytesIO())


def test_a_whole_release_has_no_fault(dist):
    assert release.found(dist) == []
    assert release.notes().startswith(f"## {release.version()}")


def test_what_is_missing_is_named(dist):
    wheel = next(dist.glob("*.whl"))
    wheel.unlink()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("faceforge/cli.py", "")
    packed(next(dist.glob("*.tar.gz")), [*release.IN_SDIST[1:], "tests/friend.JPG"])
    faults = "\n".join(release.found(dist))
    assert "lacks faceforge/conf/train.yaml" in faults
    assert "tar.gz: lacks pyproject.toml" in faults
    assert "a photo: tests/friend.JPG" in faults


def test_wheels_of_two_versions_are_refused(dist):
    (dist / "faceforge-0.0.9-py3-none-any.whl").touch()
    assert f"must be one wheel of version {release.version()}" in release.found(dist)[0]


def test_a_version_without_notes_has_none():
    assert release.notes("# Changelog\n\n## 0.0.1\n\n- old\n") == ""
