"""A machine on which the commands of the pages are typed into a real shell, and end in seconds.

Its ``faceforge`` and ``python train.py`` are a few lines each: they hand their words to one process that has imported
everything, which forks and runs them. Trainings read few faces for few steps (``smaller``), placeholders such as
runs/RUN become what the machine has (``filled``), and programs that it lacks only write down how they were called.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import traceback
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
FEW = {
    **{"trainer.max_images": "8", "trainer.log_every": "4", "trainer.sample_every": "8"},
    **{"trainer.checkpoint_every": "8", "data.batch_size": "4", "logger.mode": "disabled"},
}
LACKS = ("make", "pip", "sbatch", "srun", "docker", "curl")  # or must not run here
COUNTED = ("generate", "evaluate", "audit", "ema")  # commands that take a number of faces
STARTING = ("trainer.processes", "data.engine")  # keys of trainings that start processes
FACEFORGE = ["-c", "from faceforge.cli import run; run()"]

SENDS = """#!{python} -ISE
import json, os, socket, sys
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "python" and words[:1] != ["train.py"]:
    os.execv({python!r}, [{python!r}, *words])
with socket.socket(socket.AF_UNIX) as line:
    line.connect(os.environ["SMALL_WORLD"])
    message = json.dumps([name, words, os.getcwd()]).encode()
    socket.send_fds(line, [len(message).to_bytes(8, "big") + message], [0, 1, 2])
    sys.exit(int(line.recv(8) or b"70"))
"""
NOTES = """#!{python} -ISE
import os, shlex, sys
with open(os.environ["SMALL_WORLD"] + ".noted", "a") as file:
    print(shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]]), file=file)
"""


def install(folder: Path) -> None:
    """Write the programs into a folder, which must come first in PATH."""
    folder.mkdir()
    for name in ("faceforge", "python", "torchrun", *LACKS):
        (folder / name).write_text((NOTES if name in LACKS else SENDS).format(python=sys.executable))
        (folder / name).chmod(0o755)


# ------------------------------------------------------------------------------------------------------- what is typed


def filled(words: list[str], given: dict[str, str]) -> list[str]:
    """Words without placeholders: those of ``given``, and the run that suits the command."""
    run = next((run for pattern, run in RUNS if re.search(pattern, " ".join(words))), "runs/gan")
    found = [word.replace("runs/RUN", run) for word in words]
    for placeholder, value in given.items():
        found = [word.replace(placeholder, value) for word in found]
    return found


RUNS = [  # what is typed, and the run it is tried with
    (r"^evaluate .*--edits", "runs/editor"),
    (r"^generate .*Smiling=1\.5", "drawn:latent_editor"),  # a strength
    (r"^generate .*Smiling=", "runs/told"),
    (r"^evaluate .*--data-root|^evaluate .*--data ", "runs/lfw"),
    (r"^upscale", "runs/SR"),
    (r"^translate .*--hint", "runs/hints"),
    (r"^translate .*--lines", "runs/PIX2PIX"),
    (r"^translate .*sketch", "runs/pairs"),
    (r"^translate", "runs/colours"),
    (r"^(edit|invert|morph|walk .*--attribute)", "drawn:latent_editor"),
]


def smaller(words: list[str]) -> list[str]:
    """Words of a training, for few faces and few steps on the processor."""
    chosen = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word and word[0] not in "-~")
    if "resume" in chosen:
        few = {"trainer.max_images": "16"} if "trainer.max_images" in chosen else {}
    else:
        drawn = chosen.get("data", "drawn") == "drawn" and "data.source.count" not in chosen
        few = {**FEW, **({"data.source.count": "300"} if drawn else {})}
        few |= {} if "trainer.processes" in chosen else {"trainer.gpus": "0"}
        few |= {"hydra.sweeper.n_trials": "2"} if {"sweep", "hydra/sweeper"} & set(chosen) else {}
    kept = [word for word in words if word.lstrip("+").partition("=")[0] not in few]
    return [*kept, *(f"{key}={value}" for key, value in few.items())]


def argv(name: str, words: list[str], given: dict[str, str]) -> list[str]:
    """The command that runs instead, with its program first."""
    words = filled(words, given)
    if name != "faceforge" or words[:1] == ["train"]:
        start = words.index("train.py") + 1 if name != "faceforge" else 1
        if not {"--help", "--info", "--cfg"} & set(words):
            words = [*words[:start], *smaller(words[start:])]
    elif words[0] in COUNTED and "--edits" not in words:  # which need faces of both kinds
        at = words.index("-n") if "-n" in words else len(words)
        words[at : at + 2] = ["-n", "20"]
    elif words[0] == "directions":
        words += ["-n", "40", "--steps", "2", "--overwrite"]
    elif words[0] == "app":
        words += ["--port", "0"]
    return [name, *words]


# ------------------------------------------------------------------------------------------------------------- serving


def serve(address: str, given: dict[str, str]) -> None:
    """Run the commands that come, each in a forked process, until this process is ended."""
    import faceforge.cli
    import faceforge.engine.training
    import faceforge.evaluation.command
    import faceforge.studio.command  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        while True:
            line, _ = door.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                door.close()
                answer(line, given)
            line.close()


def answer(line: socket.socket, given: dict[str, str]) -> None:
    message, files, *_ = socket.recv_fds(line, 1 << 20, 3)
    name, words, folder = json.loads(message[8:])
    for target, file in enumerate(files):
        os.dup2(file, target)
    os.chdir(folder)
    child = os.fork()
    if child == 0:
        line.close()
        os._exit(run(argv(name, words, given)))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    line.sendall(str(code).encode())
    os._exit(0)


def run(command: list[str]) -> int:
    """Run a command in this process; in a process of its own if it starts others, and for a moment if it is the app."""
    name, *words = command
    if words[0] == "app":
        return visited(words)
    if name == "torchrun" or words[0] == "cut" or "-m" in words or any(word.startswith(STARTING) for word in words):
        program = {"faceforge": FACEFORGE, "python": [], "torchrun": ["-m", "torch.distributed.run"]}[name]
        return subprocess.run([sys.executable, *program, *words], check=False).returncode
    from faceforge import cli

    sys.argv = ["faceforge", *(words if name == "faceforge" else ["train", *words[1:]])]
    code = 0
    try:
        cli.run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        traceback.print_exception(error)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def visited(words: list[str]) -> int:
    """Start the app, ask for its page, and end it: 0 if it answered, be it a refusal."""
    command = [sys.executable, *FACEFORGE, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app:
        assert app.stdout is not None
        page = next((found[1] for said in app.stdout if (found := re.search(r"listening on (\S+)", said))), None)
        try:
            urllib.request.urlopen(f"{page}/", timeout=30).close()
            return 0
        except urllib.error.HTTPError as error:
            return 0 if error.code < 500 else 1
        finally:
            app.send_signal(signal.SIGINT)


if __name__ == "__main__":
    serve(sys.argv[1], json.loads(sys.argv[2]))
