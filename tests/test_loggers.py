"""metrics.csv against pandas-free readings of the file; W&B runs against W&B's own reader."""

from __future__ import annotations

import csv
import json
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faceforge.engine.loggers import make_loggers
from faceforge.engine.loggers.metrics_csv import MetricsCsv
from faceforge.engine.loggers.wandb_logger import Wandb, choose_mode, find_login
from faceforge.errors import BadInput
from faceforge.io.metrics_csv import read_rows
from faceforge.io.network import reachable

WANDB = shutil.which("wandb", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _no_login(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def table(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


# ------------------------------------------------------------------------------------------- metrics.csv
def test_columns_may_appear_at_any_time_and_rows_stay_rectangular(tmp_path):
    log = MetricsCsv(tmp_path)
    log.log_metrics({"loss/generator": 0.5}, 64)
    log.log_metrics({"val/kid": 0.25, "loss/generator": 2.0}, 128)
    log.log_metrics({"val/kid": 0.125}, 192)
    assert table(tmp_path / "metrics.csv") == [
        ["images", "loss/generator", "val/kid"],
        ["64", "0.5", ""],
        ["128", "2", "0.25"],
        ["192", "", "0.125"],
    ]


finite_or_not = st.floats(width=32)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b,c", 'd"e', "f/g"]), finite_or_not), max_size=8))
def test_every_float32_comes_back_exactly(tmp_path_factory, reports):
    log = MetricsCsv(tmp_path_factory.mktemp("run"))
    for position, metrics in enumerate(reports):
        log.log_metrics(metrics, position)
    back = list(read_rows(log.path))
    assert [position for position, _ in back] == list(range(len(reports)))
    for (_, got), sent in zip(back, reports, strict=True):
        assert got.keys() == sent.keys()
        for name, value in sent.items():
            np.testing.assert_array_equal(np.float32(got[name]), np.float32(value))


def test_each_row_is_in_the_file_at_once(tmp_path):
    log = MetricsCsv(tmp_path)
    for images in (1, 2, 3):
        log.log_metrics({"x": images}, images)
        assert table(tmp_path / "metrics.csv")[-1] == [str(images), str(images)]


def test_appending_does_not_read_the_file_again(tmp_path):
    log = MetricsCsv(tmp_path)
    log.log_metrics({"x": 1.0}, 0)
    start = time.perf_counter()
    for images in range(1, 20_001):
        log.log_metrics({"x": 1.0}, images)
    assert time.perf_counter() - start < 5
    assert sum(1 for _ in read_rows(log.path)) == 20_001


def test_going_on_keeps_the_clock_s_own_row_and_drops_what_came_later(tmp_path):
    log = MetricsCsv(tmp_path)
    for images in (64, 128, 192):
        log.log_metrics({"x": images / 64}, images)
    log.start(128)
    log.log_metrics({"x": 7.0, "y": 1.0}, 192)
    assert list(read_rows(log.path)) == [(64, {"x": 1.0}), (128, {"x": 2.0}), (192, {"x": 7.0, "y": 1.0})]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["metrics.csv"]


def test_a_run_opened_again_goes_on_below_the_same_header(tmp_path):
    MetricsCsv(tmp_path).log_metrics({"x": 1.0, "y": 2.0}, 1)
    MetricsCsv(tmp_path).log_metrics({"y": 3.0}, 2)
    assert table(tmp_path / "metrics.csv") == [["images", "x", "y"], ["1", "1", "2"], ["2", "", "3"]]


@pytest.mark.parametrize("torn", ["3,0.", "3", "\0\0\0", "3,1,2,"])
def test_a_torn_last_row_is_dropped(tmp_path, torn):
    MetricsCsv(tmp_path).log_metrics({"x": 1.0}, 1)
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write(torn)
    assert list(read_rows(tmp_path / "metrics.csv")) == [(1, {"x": 1.0})]
    MetricsCsv(tmp_path).log_metrics({"x": 5.0}, 2)
    assert table(tmp_path / "metrics.csv") == [["images", "x"], ["1", "1"], ["2", "5"]]


@pytest.mark.parametrize("content", ["", "ima", "images,x"])
def test_a_file_that_never_got_its_header_starts_afresh(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    MetricsCsv(tmp_path).log_metrics({"x": 1.0}, 1)
    assert table(tmp_path / "metrics.csv") == [["images", "x"], ["1", "1"]]


def test_going_on_from_nothing_writes_nothing(tmp_path):
    MetricsCsv(tmp_path).start(10)
    assert list(tmp_path.iterdir()) == []
    assert list(read_rows(tmp_path / "metrics.csv")) == []


def test_metrics_without_a_clock_are_refused(tmp_path):
    with pytest.raises(ValueError, match="images seen"):
        MetricsCsv(tmp_path).log_metrics({"x": 1.0})


def test_an_open_log_can_be_sent_to_another_process(tmp_path):
    log = MetricsCsv(tmp_path)
    log.log_metrics({"x": 1.0}, 1)
    pickle.loads(pickle.dumps(log)).log_metrics({"x": 2.0}, 2)
    assert [images for images, _ in read_rows(log.path)] == [1, 2]


# ------------------------------------------------------------------------------------------- the factory
def options(**changed):
    config = yaml.safe_load((HERE.parent / "conf" / "logger" / "default.yaml").read_text())
    assert config.pop("_target_") == "faceforge.engine.loggers.make_loggers"
    return {**config, **changed}


def test_the_yaml_names_every_parameter_that_training_does_not_give(tmp_path):
    (log,) = make_loggers(**options(), folder=tmp_path, config={})
    assert isinstance(log, Wandb)
    assert list(tmp_path.iterdir()) == []  # nothing starts before the first value


def test_disabled_makes_no_logger_and_wandb_is_imported_only_by_a_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)  # any import of it fails
    assert make_loggers(**options(mode="disabled"), folder=tmp_path, config={}) == []
    (log,) = make_loggers(**options(), folder=tmp_path, config={})
    log.log_metrics({"x": 1.0}, 1)
    assert "W&B logging stopped" in caplog.text
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert make_loggers(**options(), folder=tmp_path, config={}) == []


@pytest.mark.parametrize(("key", "value"), [("mode", "of"), ("images", "generate")])
def test_unknown_choices_are_named(tmp_path, key, value):
    with pytest.raises(BadInput, match=rf"logger\.{key}: '{value}' is none of"):
        make_loggers(**options(**{key: value}), folder=tmp_path, config={})


# ----------------------------------------------------------------------------------------- login and network
def server(url: str = "https://api.wandb.ai", key: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(base_url=url, api_key=key)


def test_a_login_is_found_in_each_place_and_only_for_its_host(tmp_path, monkeypatch):
    assert find_login(server()) is None
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password fromnetrc\n")
    assert find_login(server()) == "fromnetrc"
    assert find_login(server("https://wandb.example.org")) is None
    assert find_login(server("https://evilwandb.ai.example.org")) is None
    assert find_login(server(key="fromsettings")) == "fromsettings"
    monkeypatch.setenv("WANDB_API_KEY", "fromenvironment")
    assert find_login(server(key="fromsettings")) == "fromenvironment"


def test_a_broken_netrc_is_no_login(tmp_path):
    (tmp_path / "netrc").write_text("machine api.wandb.ai nonsense")
    assert find_login(server()) is None


def test_modes_by_login_and_network(monkeypatch):
    assert choose_mode("offline", server(key="k")) == ("offline", None)
    assert choose_mode("auto", server()) == ("offline", None)
    assert choose_mode("online", server()) == ("offline", None)  # never a question
    with socket.create_server(("127.0.0.1", 0)) as listening:
        here = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert choose_mode("auto", server(here, "k")) == ("online", "k")
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert choose_mode("auto", server(here, "k")) == ("offline", None)
    monkeypatch.delenv("WANDB_MODE")
    assert choose_mode("auto", server(here, "k")) == ("offline", None)


def test_a_dead_network_costs_two_seconds(monkeypatch):
    start = time.perf_counter()
    assert not reachable("https://192.0.2.1")  # an address that no one answers at (RFC 5737)
    assert not reachable("https://no-such-host.invalid")
    release = threading.Event()  # a name look-up that hangs

    def hang(*_, **__):
        release.wait(30)
        raise OSError

    monkeypatch.setattr(socket, "create_connection", hang)
    assert not reachable("https://api.wandb.ai", seconds=0.5)
    release.set()
    assert time.perf_counter() - start < 6


# ------------------------------------------------------------------------------------------- W&B offline
def inspect(folder: Path, *flags: str) -> str:
    """What W&B's own reader finds in the one offline run of a run folder."""
    if WANDB is None:
        pytest.skip("the wandb command is missing")
    (found,) = sorted((folder / "wandb").glob("offline-run-*"))
    command = [WANDB, "leet", "inspect", *flags, "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "No such command" in done.stderr:
        pytest.skip("this wandb has no `leet inspect`")
    assert done.returncode == 0, done.stderr
    return done.stdout


def summary(folder: Path) -> dict:
    return json.loads(inspect(folder, "--summary"))


def records(folder: Path, kind: str) -> list[dict]:
    return [line[kind] for line in map(json.loads, inspect(folder).splitlines()) if line["type"] == kind]


def picture(folder: Path, images: int) -> Path:
    (folder / "samples").mkdir(exist_ok=True)
    path = folder / "samples" / f"{images:09d}.png"
    Image.new("RGB", (8, 8), (images % 256, 0, 0)).save(path)
    return path


def offline(folder: Path, **changed) -> Wandb:
    about = {"mode": "offline", "config": {"model": {"lr": 1e-4}}, "run_id": "abcd1234"}
    return Wandb(folder, **{**about, **changed})


def test_an_offline_run_holds_values_config_summary_and_pictures(tmp_path, capfd):
    log = offline(tmp_path, name="mine", tags=["x"])
    log.log_metrics({"loss/generator": 0.5}, 64)
    log.log_metrics({"loss/generator": 0.25}, 128)
    log.log_metrics({"late": 1.0}, 64)  # a clock that stands back must not lose anything
    log.log_picture(picture(tmp_path, 128), 128)
    assert log.info is not None
    assert log.info["id"] == "abcd1234"
    assert log.info["mode"] == "offline"
    assert Path(log.info["folder"]).parent == tmp_path / "wandb"
    log.summary({"best": 0.125})
    log.finish()
    said = capfd.readouterr()
    assert said.out + said.err == ""
    run = summary(tmp_path)
    assert run["state"] == "finished"
    assert run["exit_code"] == 0
    assert run["run_id"] == "abcd1234"
    assert run["name"] == "mine"
    assert run["config"]["model"]["lr"] == 1e-4
    assert run["summary"]["best"] == 0.125
    assert run["summary"]["loss/generator"] == 0.25
    assert run["summary"]["late"] == 1.0
    assert run["step"] == 3
    assert [row["item"]["images"] for row in records(tmp_path, "history")] == [64, 128, 64, 128]
    defined = records(tmp_path, "metric")
    assert any(m.get("glob_name") == "*" and m["step_metric"] == "images" for m in defined)  # x-axis of all
    assert len(list((tmp_path / "wandb").glob("offline-run-*/files/media/images/samples_*.png"))) == 1


KILLED = """
import os, signal, sys
from faceforge.engine.loggers.wandb_logger import Wandb
log = Wandb(sys.argv[1], mode="offline", run_id="abc", config={})
log.start()
print(log.info is not None, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_its_parent_uses_wandb(tmp_path):
    """W&B's service of this process, which children would share, keeps the id of the killed one in use."""
    log = offline(tmp_path / "parent")
    log.start()
    assert os.environ["WANDB_SERVICE"]
    for _ in range(2):
        child = [sys.executable, "-c", KILLED, str(tmp_path)]
        assert subprocess.run(child, capture_output=True, text=True, check=False).stdout == "True\n"
    log.log_metrics({"loss": 1.0}, 1)  # the parent's own goes on
    assert log.info is not None
    log.finish()


@pytest.mark.parametrize(
    ("policy", "kind", "kept"),
    [
        ("generated", "generated", True),
        ("generated", "real-derived", False),
        ("all", "real-derived", True),
        ("none", "generated", False),
    ],
)
def test_pictures_of_real_people_go_only_where_asked(tmp_path, policy, kind, kept):
    log = offline(tmp_path, images_policy=policy, kind=kind, resumed_at=10)
    picture(tmp_path, 5)
    MetricsCsv(tmp_path).log_metrics({"x": 1.0}, 5)
    log.start()  # replays the older picture
    log.log_picture(picture(tmp_path, 20), 20)
    log.finish()
    found = list((tmp_path / "wandb").glob("offline-run-*/files/media/images/samples_*.png"))
    assert len(found) == (2 if kept else 0)


@pytest.mark.slow
def test_a_job_that_raises_leaves_a_closed_failed_run_and_the_next_its_own(tmp_path):
    for name, code in [("first", 1), ("second", 0)]:
        (tmp_path / name).mkdir()
        log = offline(tmp_path / name, run_id=name)
        log.log_metrics({"x": 1.0}, 1)
        log.finish(code)
        log.log_metrics({"x": 2.0}, 2)  # after its end nothing opens a run again
    assert [summary(tmp_path / name)["state"] for name in ("first", "second")] == ["failed", "finished"]
    assert [summary(tmp_path / name)["run_id"] for name in ("first", "second")] == ["first", "second"]
    assert [summary(tmp_path / name)["step"] for name in ("first", "second")] == [0, 0]


def test_a_resumed_run_is_one_complete_run(tmp_path):
    table_of_run, log = MetricsCsv(tmp_path), offline(tmp_path)
    for images in (64, 128, 192):
        for logger in (table_of_run, log):
            logger.log_metrics({"loss/generator": 1 / images}, images)
    log.log_picture(picture(tmp_path, 64), 64)
    log.finish(1)  # what the killed run left
    table_of_run.start(128)
    again = offline(tmp_path, resumed_at=128)
    again.log_metrics({"loss/generator": 0.75}, 192)
    again.finish()
    run = summary(tmp_path)  # fails unless exactly one offline folder is left
    assert run["run_id"] == "abcd1234"
    assert run["state"] == "finished"
    assert run["summary"]["images"] == 192
    assert run["summary"]["loss/generator"] == 0.75
    assert run["step"] == 3  # 64, picture, 128, 192


def test_errors_of_wandb_are_said_once_and_end_nothing(tmp_path, caplog, monkeypatch):
    log = offline(tmp_path)
    monkeypatch.setattr(log, "_init", lambda older: (_ for _ in ()).throw(OSError("disk on fire")))
    with caplog.at_level(logging.WARNING):
        for images in range(3):
            log.log_metrics({"x": 1.0}, images)
        log.summary({"x": 1.0})
        log.finish()
    assert [record.getMessage() for record in caplog.records] == [
        "W&B logging stopped (disk on fire); metrics.csv goes on"
    ]


@pytest.mark.slow
def test_a_relative_folder_is_found_from_wherever_the_process_goes(tmp_path, monkeypatch):
    for place in ("first", "second"):  # W&B's service outlives the first run and stays in its folder
        (tmp_path / place / "run").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / place)
        log = offline(Path("run"), run_id=place)
        log.log_metrics({"x": 1.0}, 1)
        log.finish()
    assert [summary(tmp_path / name / "run")["run_id"] for name in ("first", "second")] == ["first", "second"]


class Refuses(BaseHTTPRequestHandler):
    """A server that knows nobody."""

    def do_POST(self):
        self.send_response(401)
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST

    def log_message(self, *_):
        pass


def test_a_server_that_refuses_the_key_means_offline(tmp_path, monkeypatch, caplog):
    wandb = pytest.importorskip("wandb")
    wandb.teardown()  # settings are read once per service
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{web.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        log = Wandb(tmp_path, mode="auto", run_id="abcd1234")
        log.log_metrics({"x": 1.0}, 1)
        log.finish()
        web.shutdown()
    wandb.teardown()
    assert "cannot go online" in caplog.text
    assert summary(tmp_path)["summary"]["x"] == 1
    assert not list((tmp_path / "wandb").glob("run-*"))
