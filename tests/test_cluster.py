"""Who starts the processes: what is believed, what is refused, and ranks that torchrun really starts."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from conftest import ROOT, TINY
from test_processes import SPIED

from faceforge import config
from faceforge.engine import checkpoint, cluster, group, resume, training
from faceforge.engine.cluster import Launch, decide, first_host
from faceforge.engine.group import Ended, Group, RankLost
from faceforge.engine.signals import AgreedSignals
from faceforge.engine.strategy import NoHandlers, Outside
from faceforge.errors import BadInput
from faceforge.io.portable import ancestors

TORCHRUN = {
    **{"TORCHELASTIC_RUN_ID": "a", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"},
    **{"GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "MASTER_ADDR": "a1", "MASTER_PORT": "29500"},
    **{"TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_USE_AGENT_STORE": "True"},
    "TORCHELASTIC_ERROR_FILE": "/tmp/agent/run_x/attempt_2/1/error.json",
}
SRUN = {
    **{"SLURM_JOB_ID": "1234", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"},
    **{"SLURM_NODEID": "1", "SLURM_LOCALID": "1", "SLURM_PROCID": "3", "SLURM_TASK_PID": "77"},
    **{"SLURM_STEP_NODELIST": "gpu-[07-08]", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"},
}


@pytest.fixture
def above(monkeypatch):
    """Say which processes are above this one: ``above((77, "python train.py"), ...)``."""

    def say(*processes):
        found = [(process, words.split()) for process, words in processes]
        monkeypatch.setattr(cluster, "ancestors", lambda: iter(found))

    return say


def test_this_process_has_ancestors():
    found = dict(ancestors())
    assert list(filter(None, found[os.getpid()])) == list(filter(None, psutil.Process().cmdline()))
    assert os.getppid() in found


@pytest.mark.parametrize(
    "agent", ["/a/python /a/bin/torchrun --standalone train.py", "python -m torch.distributed.run train.py"]
)
def test_torchrun_is_believed_below_its_agent(above, agent):
    above((9, "python train.py"), (8, agent))
    found = decide(TORCHRUN)
    assert (found.by, found.rank, found.world, found.local_rank, found.node) == ("torchrun", 5, 8, 1, 1)
    assert (found.address, found.port, found.served, found.attempt) == ("a1", 29500, True, 2)
    assert str(found.notes) == "/tmp/agent/run_x"


@pytest.mark.parametrize(
    ("change", "agent"),
    [
        ({}, "bash -c tests/torchrun.py"),  # the variables of another shell
        ({"RANK": "none"}, "python torchrun train.py"),
        ({"MASTER_PORT": ""}, "python torchrun train.py"),
    ],
)
def test_what_torchrun_left_behind_is_not_believed(above, change, agent):
    above((9, "python train.py"), (8, agent))
    assert decide({**TORCHRUN, **change}) == Launch()


def test_a_task_of_srun_is_believed_below_its_process(above):
    above((99, "python train.py"), (77, "bash wrapper.sh"))  # a shell between the task and this process
    found = decide(SRUN)
    assert (found.by, found.rank, found.world, found.local_rank, found.nodes) == ("srun", 3, 4, 1, 2)
    assert (found.address, found.served, found.even) == ("gpu-07", False, True)
    assert found.port == decide(SRUN).port != decide({**SRUN, "SLURM_STEP_ID": "3"}).port
    assert decide({**SRUN, "SLURM_STEP_TASKS_PER_NODE": "3,1"}).even is False


@pytest.mark.parametrize("change", [{"SLURM_TASK_PID": "78"}, {"SLURM_STEP_ID": ""}, {"SLURM_STEP_NUM_TASKS": "1"}])
def test_stale_variables_of_slurm_and_steps_of_one_task_start_their_own(above, change):
    above((77, "python train.py"))
    assert decide({**SRUN, **change}) == Launch()


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("vm", "vm"), ("gpu-[07-09,12],b1", "gpu-07"), ("a1,b2", "a1"), ("n[3]", "n3"), ("n[5,7]", "n5")],
)
def test_the_first_machine_of_a_list(nodes, first):
    assert first_host(nodes) == first


# ------------------------------------------------------------------------------------------------------------ counts


@pytest.fixture
def started(monkeypatch):
    """Pretend that this process was started so."""

    def say(by="torchrun", **given):
        monkeypatch.setattr(cluster, "_in_force", [Launch(by, **given)])

    return say


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["trainer.processes=3"], r"trainer\.processes: 3 requested, torchrun started 2 on each machine"),
        (["trainer.nodes=3"], r"trainer\.nodes: 3 requested, torchrun started 2"),
        (["data.batch_size=6"], r"data\.batch_size: 6 cannot be shared evenly by 4 processes"),
        (
            ["trainer.gpus=4"],
            r"trainer\.gpus: 4 requested, but torchrun started 2 .*--nproc-per-node=4 or trainer.gpus=2",
        ),
        (["trainer.gpus=2"], r"torchrun started 2 processes on a machine with 0 GPUs"),
    ],
)
def test_counts_that_contradict_each_other_are_one_line(started, typed, line):
    started(processes=2, nodes=2)
    with pytest.raises(BadInput, match=line) as refused:
        training.make_plan(config.compose([*TINY, *typed]))
    assert "\n" not in str(refused.value)


def test_uneven_machines_and_machines_without_a_starter_are_refused(started):
    started(processes=2, nodes=2, even=False)
    with pytest.raises(BadInput, match="every machine must start the same number"):
        training.make_plan(config.compose(TINY))
    started("faceforge")
    with pytest.raises(BadInput, match=r"trainer\.nodes: 2 requested; start one process per GPU with torchrun or srun"):
        training.make_plan(config.compose([*TINY, "trainer.nodes=2"]))


def test_a_rank_knows_only_its_own_device_and_lightning_installs_no_handlers(started):
    started("srun", node=1, nodes=2, local_rank=1, processes=2)
    plan = training.make_plan(config.compose(TINY))
    assert plan.world == 4
    trainer = training.make_trainer(plan, [], group=object())
    assert (trainer.global_rank, trainer.world_size, trainer.local_rank, trainer.node_rank) == (3, 4, 1, 1)
    assert isinstance(trainer.strategy.cluster_environment, Outside)
    before = signal.getsignal(signal.SIGTERM)
    trainer._signal_connector.register_signal_handlers()
    assert isinstance(trainer._signal_connector, NoHandlers)
    assert signal.getsignal(signal.SIGTERM) is before


# ------------------------------------------------------------------------------------------------------------- groups


@pytest.fixture
def pair(monkeypatch):
    """Two ranks in two threads of this process, with a store of their own."""
    monkeypatch.setattr(group, "_joined", [])
    monkeypatch.setattr(group, "LOOK_SECONDS", 0.05)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = [Group(Launch("srun", local_rank=rank, processes=2, port=port), 2.0) for rank in range(2)]
    yield made
    for each in reversed(made):
        each.close()


@pytest.fixture
def run_folder(tmp_path):
    """A folder that looks like a run."""
    (tmp_path / "run.json").write_text("{}")
    return tmp_path


def test_rank_0_tells_the_folder_and_waits_until_all_are_ready(pair, run_folder):
    leader, follower = pair
    leader.assemble()
    thread = threading.Thread(target=leader.lead, args=(run_folder, None, 0, ""))
    thread.start()
    word = follower.follow()
    assert follower.seen(word) == run_folder
    thread.join(0.2)
    assert thread.is_alive()
    follower.begin(None)
    thread.join(10)
    assert not thread.is_alive()
    leader.end(7)
    assert follower.follow() == 7


def test_a_folder_that_a_rank_does_not_see_is_refused_in_one_line(pair, run_folder, monkeypatch):
    leader, follower = pair
    monkeypatch.setattr(group, "SEE_SECONDS", 0.0)
    refused = []

    def lead():
        try:
            leader.lead(run_folder, None, 0, "")
        except BadInput as error:
            refused.append(str(error))

    thread = threading.Thread(target=lead)
    thread.start()
    word = follower.follow()
    (run_folder / "run.json").unlink()
    with pytest.raises(BadInput) as problem:
        follower.seen(word)
    follower._store.set("ready/0/1", json.dumps([str(problem.value), ""]))
    thread.join(10)
    (line,) = refused
    assert line.startswith("rank 1 on ")
    assert line.endswith(f"run_dir: {run_folder} is not here; it must lie on a disk that all ranks share")


def test_two_ranks_with_one_gpu_are_refused(pair, run_folder):
    leader, follower = pair
    follower._store.set("ready/0/1", json.dumps([None, "GPU-1"]))
    with pytest.raises(BadInput, match="ranks 0 and 1 have the same GPU"):
        leader.lead(run_folder, None, 1, "GPU-1")


def test_a_rank_that_did_not_start_is_named(monkeypatch):
    monkeypatch.setattr(group, "_joined", [])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    alone = Group(Launch("srun", processes=3, port=port), 0.3)
    with pytest.raises(RankLost, match=r"rank 1, 2 did not start within 0 s \(trainer\.max_wait\): srun promised 3"):
        alone.assemble()
    alone.close()


def test_the_first_rank_to_end_speaks_and_all_have_its_code(pair, capsys):
    leader, follower = pair
    assert follower.end(2, "rank 1 on x: the reason") is None
    assert leader.end(1, "another") == 2
    with pytest.raises(Ended) as ended:
        leader.require_all()
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "faceforge: rank 1 on x: the reason\n"


def test_a_rank_without_a_sign_of_life_is_gone(pair, monkeypatch):
    leader, follower = pair
    monkeypatch.setattr(group, "STILL_SECONDS", 0.5)
    time.sleep(0.2)
    follower._over.set()
    found = leader.broken(RuntimeError("[gloo] Connection closed by peer"))
    assert isinstance(found, RankLost)
    assert "rank 1 on " in str(found)
    assert "is gone" in str(found)
    own = ValueError("shapes differ")
    assert leader.broken(own) is own


def test_signals_and_time_are_agreed_by_all_after_the_same_step(monkeypatch):
    """Two ranks that exchange by hand: a signal to one of them, then the time limit."""
    sent = []

    class Work:
        def wait(self):
            largest = torch.stack(sent).max(0).values
            for known in sent:
                known.copy_(largest)

    def all_reduce(known, op, async_op):
        sent.append(known)
        return Work()

    monkeypatch.setattr("torch.distributed.all_reduce", all_reduce)
    ranks = [AgreedSignals(2, torch.device("cpu"), every=1) for _ in range(2)]
    ranks[1]._handle(signal.SIGUSR2, None)
    assert [signals.ends(rank, 4) for rank, signals in enumerate(ranks)] == [None, None]
    assert [signals.ends(rank, 5) for rank, signals in enumerate(ranks)] == ["signal", "signal"]
    assert [signals.received for signals in ranks] == [signal.SIGUSR2] * 2
    sent.clear()
    ranks = [AgreedSignals(2, torch.device("cpu"), every=25) for _ in range(2)]
    for step in range(20, 26):
        assert [signals.ends(rank, step, late=True) for rank, signals in enumerate(ranks)] == [None, None]
    assert len(sent) == 2  # at the guard's cadence
    assert [signals.ends(rank, 26) for rank, signals in enumerate(ranks)] == ["time", "time"]


def test_the_run_of_a_restart_is_the_one_before(tmp_path):
    first, second = (Launch("torchrun", attempt=attempt, notes=tmp_path) for attempt in (0, 1))
    assert cluster.recalled(second) is None
    cluster.remember(first, tmp_path / "run")
    assert cluster.recalled(first) is None
    assert cluster.recalled(second) == str(tmp_path / "run")


# ----------------------------------------------------------------------------------------------------- real torchrun

AGENT = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture
def torchrun(tmp_path):
    """Start `torchrun OPTIONS train.py WORDS`; agents that are left are ended."""
    agents = []

    def start(options, *words, **environment):
        known = {**os.environ, "FACEFORGE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
        known |= {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}", **environment}
        command = [*AGENT, *options, str(ROOT / "train.py"), *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        agents.append(subprocess.Popen(command, cwd=tmp_path, env=known, **pipes))
        return agents[-1]

    yield start
    for agent in agents:
        if agent.poll() is None:
            agent.terminate()
            agent.wait(60)


STANDALONE = ["--standalone", "--nproc-per-node=2"]


def weights(folder):
    return checkpoint.read(Path(folder) / "checkpoints" / "last.ckpt")["state_dict"]


def same(a, b):
    one, other = weights(a), weights(b)
    return all(torch.equal(one[name], other[name]) for name in one)


def test_ranks_of_torchrun_see_what_one_process_sees(torchrun, tiny, tmp_path, monkeypatch):
    seen = {name: tmp_path / f"spy-{name}" for name in ("one", "many")}
    for folder in seen.values():
        folder.mkdir()
    agent = torchrun(STANDALONE, *TINY, *SPIED, "run_dir=many", FACEFORGE_SPY=str(seen["many"]))
    monkeypatch.setenv("FACEFORGE_SPY", str(seen["one"]))
    tiny("one", *SPIED)
    out, err = agent.communicate(timeout=200)
    assert agent.returncode == 0, err
    assert (out.count("Finished after"), err.count("100%")) == (1, 1)  # rank 0 alone speaks
    for kind, first in (("z", 6), ("seen", 6)):
        for number in range(first):
            alone = torch.load(seen["one"] / f"{kind}-0-{number}.pt")
            shared = torch.cat([torch.load(seen["many"] / f"{kind}-{rank}-{number}.pt") for rank in range(2)])
            exact = kind == "z" or alone.dtype == torch.float32  # generated ones differ once weights have moved
            assert torch.equal(alone, shared) if exact else alone.shape == shared.shape, (kind, number)
    assert json.loads((tmp_path / "many/run.json").read_text())["status"] == "finished"
    assert yaml.safe_load((tmp_path / "many/config.yaml").read_text())["trainer"]["processes"] is None


def wait_for_rows(folder, rows, *processes):
    deadline, table = time.monotonic() + 200, Path(folder) / "metrics.csv"
    while not table.exists() or len(table.read_text().splitlines()) <= rows:
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ranks_of(agent):
    """The processes of an agent, by rank."""
    psutil = pytest.importorskip("psutil")
    found = [p for p in psutil.Process(agent.pid).children() if "train.py" in " ".join(p.cmdline())]
    return sorted(found, key=lambda process: int(process.environ()["RANK"]))


@pytest.mark.slow
def test_spawn_torchrun_and_two_machines_end_in_the_same_bits_and_go_on_from_one_another(torchrun, tiny, tmp_path):
    """Two agents on loopback are two machines; a run that one begins, the next continues."""
    settings = [*TINY, "trainer.checkpoint_every=8"]
    tiny("whole", "trainer.checkpoint_every=8", "trainer.processes=2", "trainer.max_images=48")
    tiny("run", "trainer.checkpoint_every=8", "trainer.processes=2", "trainer.max_images=16")
    agent = torchrun(STANDALONE, *settings, "run_dir=run", "trainer.max_images=32")
    _, err = agent.communicate(timeout=200)
    assert agent.returncode == 0, err
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    two = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
    agents = [torchrun([*two, f"--node-rank={n}"], *settings, "run_dir=run", "trainer.max_images=48") for n in (0, 1)]
    said = [agent.communicate(timeout=200) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert same(tmp_path / "whole", tmp_path / "run")
    assert "Finished after" in said[0][0]
    assert said[1] == ("", "") or "Finished" not in said[1][0]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_is_named_and_a_restart_continues_the_run(torchrun, tiny, tmp_path, rank):
    """Without a name for the folder: the agent remembers which run its ranks trained."""
    settings = [*TINY, "trainer.checkpoint_every=8", "trainer.max_images=240"]
    tiny("whole", "trainer.checkpoint_every=8", "trainer.max_images=240", "trainer.processes=2")
    agent = torchrun([*STANDALONE, "--max-restarts=1"], *settings)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("runs/*/metrics.csv")):
        assert agent.poll() is None, agent.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (folder,) = tmp_path.glob("runs/*")
    wait_for_rows(folder, 6, agent)
    ranks_of(agent)[rank].kill()
    _, err = agent.communicate(timeout=200)
    assert agent.returncode == 0, err
    assert f"rank {rank} on " in err
    assert "is gone" in err
    assert list(tmp_path.glob("runs/*")) == [folder]
    assert same(tmp_path / "whole", folder)
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], len(record["resumed"])) == ("finished", 1)


@pytest.mark.slow
def test_a_rank_that_hangs_ends_all_within_the_limit(torchrun, tmp_path):
    stuck = ["trusted_packages=[spies]", "model._target_=spies.StuckRank", "trainer.max_wait=0.1"]
    agent = torchrun(STANDALONE, *TINY, *stuck, "run_dir=run", "trainer.checkpoint_every=8")
    _, err = agent.communicate(timeout=200)
    assert agent.returncode == 1
    (line,) = [line for line in err.splitlines() if line.startswith("faceforge: rank")]
    assert "rank 0 has waited" in line
    assert "for rank 1 (training)" in line
    assert checkpoint.read(tmp_path / "run/checkpoints/last.ckpt")["clock"]["images"] == 16


@pytest.mark.slow
def test_a_signal_to_one_rank_ends_all_after_the_same_step(torchrun, tmp_path):
    agent = torchrun(
        STANDALONE, *TINY, "run_dir=run", "trainer.max_images=10000000", "trainer.checkpoint_every=10000000"
    )
    wait_for_rows(tmp_path / "run", 6, agent)
    before = len((tmp_path / "run/metrics.csv").read_text().splitlines())
    ranks_of(agent)[1].send_signal(signal.SIGUSR2)
    out, err = agent.communicate(timeout=200)
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert f"Stopped after {record['images']:,} images" in out, err
    assert checkpoint.read(tmp_path / "run/checkpoints/last.ckpt")["clock"]["images"] == record["images"]
    assert record["status"] == "interrupted"
    assert "exitcode  : 140" in err
    assert record["images"] // 4 - before < 60  # steps until all had agreed, saved, and the report was written


@pytest.mark.slow
def test_a_folder_on_another_disk_is_refused(torchrun, tmp_path):
    """The second agent sees an empty disk where the first one writes."""
    if os.getuid() or not shutil.which("unshare"):
        pytest.skip("a disk of one's own is mounted as root")
    place = tmp_path / "disk"
    place.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    two = ["--nnodes=2", "--nproc-per-node=1", "--master-addr=127.0.0.1", f"--master-port={port}"]
    first = torchrun([*two, "--node-rank=0"], *TINY, "run_dir=disk/run")
    mount = f'mount -t tmpfs none {place} && exec "$@"'
    command = ["unshare", "-m", "bash", "-c", mount, "bash", *AGENT, *two, "--node-rank=1", str(ROOT / "train.py")]
    known = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "FACEFORGE_CACHE": str(tmp_path / "cache")}
    second = subprocess.Popen([*command, *TINY, "run_dir=disk/run"], cwd=tmp_path, env=known, stderr=subprocess.PIPE)
    _, err = first.communicate(timeout=200)
    second.communicate(timeout=60)
    (line,) = [line for line in err.splitlines() if line.startswith("faceforge:")]
    assert line.startswith("faceforge: rank 1 on ")
    assert line.endswith("disk/run is not here; it must lie on a disk that all ranks share")


@pytest.mark.slow
def test_a_sweep_is_not_begun_by_several_ranks(torchrun):
    agent = torchrun(STANDALONE, "-m", *TINY, "seed=1,2")
    _, err = agent.communicate(timeout=200)
    (line,) = [line for line in err.splitlines() if line.startswith("faceforge:")]
    assert "start a sweep with python" in line


def test_a_run_continued_by_torchrun_takes_its_counts_unless_typed(started):
    saved = {"trainer": {"gpus": 0, "processes": 4, "nodes": None}}
    assert resume._as_started(saved, []) == saved
    started(processes=2)
    assert resume._as_started(saved, [])["trainer"] == {"gpus": 0, "processes": None, "nodes": None}
    assert resume._as_started(saved, ["trainer.processes=4"]) == saved


@pytest.mark.slow
def test_all_ranks_go_back_to_the_last_checkpoint_together(torchrun, tiny, tmp_path):
    whole = tiny("whole", "trainer.processes=2", "trainer.checkpoint_every=8")
    fault = ["trusted_packages=[spies]", "model._target_=spies.NanOnce", "guard.action=rollback", "guard.every=1"]
    words = [*TINY, *fault, "trainer.checkpoint_every=8", "run_dir=run"]
    agent = torchrun(STANDALONE, *words, FACEFORGE_SPY=str(tmp_path))
    out, err = agent.communicate(timeout=200)
    assert agent.returncode == 0, err
    assert out.count("back to image 16 (rollback 1 of 3)") == 1
    assert json.loads((tmp_path / "run/run.json").read_text())["status"] == "finished"
    assert same(whole, tmp_path / "run")
