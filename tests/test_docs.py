"""The documentation site, which `make docs` builds: pages made from the code, and links that lead out of docs/."""

import importlib.util
import re
import shlex

import pytest
import typer
import yaml
from conftest import ROOT
from torch import nn, zeros

from benchmarks import failures, networks
from faceforge import cli, config, words

spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site.py")
site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(site)


def nav(node):
    """Every page of the navigation."""
    if isinstance(node, str):
        return [node]
    return [page for part in (node.values() if isinstance(node, dict) else node) for page in nav(part)]


def test_the_commands_are_all_there_with_their_help():
    text = site.commands()
    assert {"## faceforge generate", "## faceforge data get", "## faceforge runs prune"} <= set(text.splitlines())
    assert "Change attributes of the faces in photos" in text
    assert "## faceforge train" not in text


def test_the_configuration_holds_every_yaml():
    text = site.configuration()
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert path.read_text().rstrip() in text, path


def test_a_notebook_is_a_page_without_its_installing_cell():
    text = site.tutorial(ROOT / "notebooks" / "01_first_face.ipynb")
    assert text.startswith("# First face\n")
    assert "notebook.train(RUN" in text
    assert "%pip" not in text


@pytest.mark.parametrize(
    ("name", "written", "link", "expected"),
    [
        ("index.md", "README.md", "[a](docs/train.md#sweep)", "[a](train.md#sweep)"),
        ("index.md", "README.md", "![a](docs/pictures/strip.png)", "![a](pictures/strip.png)"),
        ("install.md", "docs/install.md", "[a](../README.md#platforms)", "[a](index.md#platforms)"),
        ("cluster.md", "docs/cluster.md", "[a](../examples/kubernetes.yaml)", "[a](examples.md#kubernetes-yaml)"),
        ("results/x.md", "docs/results/x.md", "[a](../train.md)", "[a](../train.md)"),
        ("train.md", "docs/train.md", "[a](#models)", "[a](#models)"),
        ("train.md", "docs/train.md", "[a](https://example.com/a.md)", "[a](https://example.com/a.md)"),
    ],
)
def test_links_lead_to_pages_of_the_site(name, written, link, expected):
    assert site.LINK.sub(lambda found: site.moved(found, ROOT / written, name), link) == expected


def test_links_in_code_stay():
    text = "[a](b)\n```\n[a](b)\n```\n[a](b)"
    changed = site.outside_code(text, lambda part: part.replace("(b)", "(c)"))
    assert changed == "[a](c)\n```\n[a](b)\n```\n[a](c)"


def test_every_page_is_in_the_navigation():
    listed = nav(yaml.safe_load(re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text()))["nav"])
    written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    made = {f"tutorials/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    made |= {*site.ELSEWHERE, "examples.md", "records.md", "reference/commands.md", "reference/configuration.md"}
    assert sorted(listed) == sorted(written | made)


def test_every_network_and_task_is_in_the_reference():
    """A module that is added is documented, or left out on purpose."""
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    named = set(re.findall(r"^::: faceforge\.([\w.]+)", pages, re.MULTILINE))
    inner = {"blocks", "recompute", "sizes"}  # used by the others
    assert {
        f"networks.{p.stem}" for p in (ROOT / "src/faceforge/networks").glob("[a-z]*.py") if p.stem not in inner
    } <= named
    for module in named:
        place = ROOT / "src/faceforge" / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), module


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ONE = zeros(1, 1, 5, 5)
OWN_CODE = re.compile(r"--config-dir|searchpath")  # folders of the page's own, which test_own_code.py makes
TYPED = re.compile(r"^(?:\w+=\S+ )*(faceforge|python train\.py)(?: (.*))?$", re.MULTILINE)


def typed(page):
    """The commands in the blocks of code of a page: the program and its words, without comments."""
    blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    for program, rest in TYPED.findall(blocks.replace("\\\n", " ")):
        yield program, shlex.split(rest, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_typed(page):
    """Commands, options, groups, choices and keys exist, and values have their types."""
    whole = typer.main.get_command(cli.app)
    for program, given in typed(page):
        if program == "faceforge" and given[:1] != ["train"]:
            command, name = whole, "faceforge"
            while given and hasattr(command, "commands") and given[0] in command.commands:
                command, name = command.commands[given[0]], f"{name} {given.pop(0)}"
            command.make_context(name, given or ["--help"] if command is whole else given, resilient_parsing=False)
        elif not OWN_CODE.search(" ".join(given)):
            many = "-m" in given
            chosen = [words.from_flag(word) for word in given if "=" in word or not word.startswith(("-", "train"))]
            assert config.check_overrides([words.override(word, many) for word in chosen], many) == [], given


@pytest.mark.parametrize("model", networks.MODELS)
def test_the_figures_are_those_of_the_networks(model):
    """`python -m benchmarks.networks` draws them again."""
    assert (networks.FOLDER / f"{model}.svg").read_text() == networks.drawing(model)


def test_stages_join_layers_of_one_shape():
    found = networks.stages(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten()), [ONE])
    assert [(stage.shape, stage.layers, stage.parameters) for stage in found] == [
        ((1, 5, 5), 0, 0),
        ((4, 3, 3), 2, 40 + 20),
        ((36,), 0, 0),
    ]


def test_the_failures_page_is_made_from_its_records():
    assert failures.PAGE.read_text() == failures.text()
    for failure in failures.FAILURES:
        drawn = failures.curve(failure)
        assert drawn is None or (failures.PICTURES / f"{failure.name}.svg").read_text() == drawn
        for change in (failure.failing, failure.mending):
            assert config.check_overrides([*failures.COMMON, *failure.common, *change]) == [], failure.name
