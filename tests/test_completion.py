"""What shells complete for the `faceforge` command, and the example of every command's help."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from faceforge import cli
from faceforge.studio import completion

COMMANDS = typer.main.get_command(cli.app)
HELPLESS = {"faceforge train"}  # Hydra's own help


def commands(command=COMMANDS, name="faceforge"):
    """Every command with its name, those of groups included."""
    below = getattr(command, "commands", {})
    if not below:
        yield name, command
    for word, inner in below.items():
        yield from commands(inner, f"{name} {word}")


def context(command, name):
    return command.context_class(command, info_name=name)


@pytest.mark.parametrize(
    ("name", "command"), [pair for pair in commands() if pair[0] not in HELPLESS], ids=lambda value: str(value)[:40]
)
def test_every_help_ends_with_an_example_that_can_be_typed(name, command):
    told = " ".join(command.get_help(context(command, name)).split())
    example = shlex.split(told.partition("Example: ")[2])
    words = name.removesuffix(" list").split()
    assert example[: len(words)] == words
    command.make_context(name, example[len(words) :])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a run, a run of a sweep, and an export."""
    for run in ("runs/smiles", "runs/sweep/a"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "run.json").write_text('{"status": "finished"}')
    (tmp_path / "my_model.safetensors").touch()
    (tmp_path / "my_notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_runs_are_those_below_runs_those_that_ship_and_paths(here):
    found = completion.runs("")
    assert found[:2] == ["runs/smiles", "runs/sweep/a"]
    assert "drawn:pix2pix" in found
    assert completion.runs("runs/s") == ["runs/smiles", "runs/sweep/a", "runs/sweep"]
    assert completion.runs("my") == ["my_model.safetensors"]
    assert completion.runs("no/such/folder/") == []


def test_without_any_run_the_models_that_ship_are_offered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert set(completion.runs("")) >= {"drawn:latent_editor", "drawn:dcgan_cnn"}


def test_overrides_are_choices_of_groups_and_keys_with_their_defaults(here):
    offered = completion.words([], "")
    assert {"model=pix2pix", "data=crops", "model/schedule=cosine", "experiment=published/sr_mlp"} <= set(offered)
    assert not any(word.startswith(("hydra", "data=base")) for word in offered)
    assert completion.words([], "model=dc") == ["model=dcgan_cnn", "model=dcgan_conventional"]
    assert completion.words(["model=pix2pix"], "data.si") == ["data.size=[160,128]"]
    assert completion.words([], "data.si") == ["data.size=64"]
    assert "trainer.gpus=null" in completion.words([], "trainer.g")
    assert completion.words([], "resume=runs/sm") == ["resume=runs/smiles"]
    assert completion.words([], "nothing.like") == []


def test_what_is_offered_passes_the_check(here):
    from faceforge import config

    for word in completion.words([], "model."):
        assert config.check_overrides([word]) == [], word


BASH = """
source "$1"
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); $FUNCTION "$1"; echo "${COMPREPLY[@]}"; }
FUNCTION=$(complete -p faceforge | sed 's/.*-F \\([^ ]*\\).*/\\1/')
try faceforge gene
try faceforge evaluate runs/sm
try faceforge train model = dc
try faceforge train model =
"""


def test_bash_completes_commands_runs_and_overrides(here):
    """The script that the command itself shows, in a real bash, with the words that bash would make."""
    command = Path(sys.executable).with_name("faceforge")
    script = subprocess.run([command, "--show-completion", "bash"], capture_output=True, text=True, check=True).stdout
    (here / "complete.sh").write_text(script)
    path = {"PATH": f"{command.parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", BASH, "bash", "complete.sh"], capture_output=True, text=True, env=path, check=True
    )
    told = [line.split() for line in done.stdout.splitlines()]
    assert told == [
        ["generate"],
        ["runs/smiles"],
        ["dcgan_cnn", "dcgan_conventional"],
        ["conv_superres", "dcgan_cnn", "dcgan_conventional", "latent_editor", "mlp_autoencoder", "pix2pix"],
    ]
