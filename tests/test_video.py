"""Videos: sound, frame rate and orientation stay, faces do not tremble, and what is wrong is told in one line."""

import socket
import subprocess
import tempfile
from fractions import Fraction
from functools import partial

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from test_studio import FACE, RECIPE, asked, picture, place, seen  # noqa: F401 (fixtures)

from faceforge import cli
from faceforge.cut.detect import Detection
from faceforge.cut.frame import Frame
from faceforge.errors import BadInput
from faceforge.studio import command, output, photo, video
from faceforge.studio.model import open_model
from faceforge.studio.photo import Spot
from faceforge.studio.web import handlers
from faceforge.studio.web.handlers import Ask

pytestmark = pytest.mark.usefixtures("seen")


def ffmpeg(*words):
    done = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *map(str, words)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def told(path):
    """What ffmpeg says of a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


SOUNDS = {".mp4": "aac", ".mov": "pcm_s16le", ".mkv": "libvorbis", ".avi": "mp3", ".webm": "libopus"}


def film(path, frames=12, rate="30000/1001", size=(80, 100), sound=None):
    """A video of colours that change, with a tone."""
    picture_ = f"testsrc=size={size[0]}x{size[1]}:rate={rate}"
    tone = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]
    coder = ["-c:v", "libvpx", "-deadline", "realtime"] if path.suffix == ".webm" else ["-c:v", "libx264"]
    heard = ["-c:a", sound, "-shortest"] if sound else []
    shown = ["-f", "lavfi", "-i", picture_]
    cut = ["-frames:v", frames, *([] if not sound else ["-t", str(frames / float(Fraction(rate)))])]
    ffmpeg(*shown, *(tone if sound else []), *coder, "-pix_fmt", "yuv420p", *heard, *cut, path)
    return path


# ------------------------------------------------------------------------------------- rate, sound, orientation, length


@pytest.mark.parametrize(("suffix", "codec"), SOUNDS.items())
def test_sound_and_frame_rate_stay(place, tmp_path, suffix, codec):  # noqa: F811
    source = film(tmp_path / f"a{suffix}", sound=codec)
    command.translate(asked(place, "colour", tmp_path / "b.mp4"), source, False, "photo")
    before, after = video.open_video(source), video.open_video(tmp_path / "b.mp4")
    assert before.rate == after.rate == Fraction(30000, 1001)
    counts = [len(list(each.frames())) for each in (before, after)]
    assert counts[0] == counts[1]
    assert 11 <= counts[0] <= 14  # where sound and pictures do not begin together, ffmpeg repeats or drops some
    assert after.sound == (before.sound if before.sound in video.COPIED else "aac")
    assert output.read_recipe(tmp_path / "b.mp4")["video"] == source.name
    loud = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", tmp_path / "b.mp4", "-af", "volumedetect", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert -40 < float(loud.split("mean_volume: ")[1].split()[0]) < -5  # the tone, and not silence


def test_a_video_without_sound_and_an_animation(place, tmp_path, capsys):  # noqa: F811
    command.translate(asked(place, "colour", tmp_path / "b.mp4"), film(tmp_path / "a.mp4", rate="25"), False, "photo")
    assert "Audio" not in told(tmp_path / "b.mp4")
    heard = film(tmp_path / "c.mp4", rate="25", sound="aac")
    command.translate(asked(place, "colour", tmp_path / "c.gif"), heard, False, "photo")
    assert "0.5 s of video, without its sound, which a .gif cannot have" in capsys.readouterr().out
    assert len(list(video.open_video(tmp_path / "c.gif").frames())) == 12


@pytest.mark.parametrize(
    ("told_as", "meant"),
    [
        (29.97, Fraction(30000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (25.0, Fraction(25)),
        (30.0, Fraction(30)),
        (12.5, Fraction(25, 2)),
    ],
)
def test_rates_are_what_was_meant(told_as, meant):
    assert video.exact(told_as) == meant


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_what_a_phone_recorded_on_its_side_is_upright(place, tmp_path, turn):  # noqa: F811
    flat = film(tmp_path / "flat.mp4", frames=3, rate="10")
    ffmpeg("-display_rotation", turn, "-i", flat, "-c", "copy", tmp_path / "turned.mp4")
    straight, turned = (list(video.open_video(tmp_path / name).frames()) for name in ("flat.mp4", "turned.mp4"))
    expected = np.rot90(straight[1], turn // 90)
    assert turned[1].shape == expected.shape
    assert np.abs(turned[1].astype(int) - expected).mean() < 1
    command.translate(asked(place, "colour", tmp_path / "b.mp4"), tmp_path / "turned.mp4", True, "photo")
    assert "displaymatrix" not in told(tmp_path / "b.mp4")  # it would be turned again


@pytest.mark.parametrize("name", ["sr", "mlp"])
def test_videos_are_enlarged_with_or_without_faces(place, tmp_path, monkeypatch, name):  # noqa: F811
    source = film(tmp_path / "a.mp4", frames=4, rate="10", sound="aac")
    for number, found in enumerate(([Detection((20.0, 15.0, 40.0, 50.0), 0.9, FACE)], [])):
        monkeypatch.setattr(photo, "finder", lambda found=found: lambda pixels: found)
        command.upscale(asked(place, name, tmp_path / f"{number}.mp4"), source, False)
        made = video.open_video(tmp_path / f"{number}.mp4")
        assert (made.size, len(list(made.frames())), made.sound) == ((200, 160), 4, "aac")


def test_the_faces_of_a_video_are_edited(place, tmp_path, monkeypatch):  # noqa: F811
    source = film(tmp_path / "a.mp4", frames=4, rate="10")
    name = open_model(place / "latent").space.names[0]
    command.edit(
        asked(place, "latent", tmp_path / "b.mp4"), source, [f"{name}=2"], "orthogonalised", False, "photo", None
    )
    made = video.open_video(tmp_path / "b.mp4")
    assert (made.size, len(list(made.frames()))) == ((100, 80), 4)
    assert output.read_recipe(tmp_path / "b.mp4")["strengths"] == {name: 2.0}


def test_a_preview_shows_frames_before_and_after(place, tmp_path, capsys):  # noqa: F811
    source = film(tmp_path / "a.mp4", frames=20, rate="10")
    command.translate(asked(place, "colour", tmp_path / "b.png"), source, False, "photo", preview=True)
    shown = np.asarray(Image.open(tmp_path / "b.png"))
    assert shown.shape == (2 * 100, 4 * 80, 3)
    near = list(video.open_video(source).frames())[12:14]  # at 5/8 of two seconds
    assert min(np.abs(shown[:100, 160:240].astype(int) - frame).mean() for frame in near) < 2
    said = capsys.readouterr().out
    assert "4 frames, before and after" in said
    assert f"To make the video:  faceforge translate {place / 'colour'} {source}" in said
    name = open_model(place / "latent").space.names[0]
    how = "orthogonalised", False, "photo", None
    command.edit(asked(place, "latent", tmp_path / "d.png"), source, [f"{name}=2"], *how, preview=True)
    assert Image.open(tmp_path / "d.png").size == (4 * 80, 2 * 100)
    assert f"faceforge edit {place / 'latent'} {source} {name}=2\n" in capsys.readouterr().out
    command.upscale(asked(place, "sr", tmp_path / "c.png"), source, False, preview=True)
    assert Image.open(tmp_path / "c.png").size == (4 * 160, 2 * 200)


# --------------------------------------------------------------------------------------------------------- steady faces


def spots_of(centres, size=30.0):
    """One face in each frame; None: none is found."""
    return [[] if each is None else [Spot(Frame(*each, size, size), 0)] for each in centres]


def steady(spots, reach=7, frames=None):
    """The centres of the first face in each frame that ``steadied`` gives."""
    frames = frames or [np.zeros((400, 600, 3), np.uint8)] * len(spots)
    looked = iter(spots)
    found = [places for _, places in video.steadied(iter(frames), lambda pixels: next(looked), reach)]
    assert len(found) == len(spots)
    return [[(spot.frame.x, spot.frame.y) for spot in places] for places in found]


def test_a_face_that_moves_evenly_is_where_it_is():
    path = [(100.0 + 4 * n, 80.0 + n) for n in range(40)]
    found = steady(spots_of(path))
    assert np.allclose([each[0] for each in found], path, atol=1e-6)  # no lag, neither at the ends


def test_boxes_that_tremble_are_steadied():
    rng = np.random.default_rng(0)
    path = np.stack([200 + 60 * np.sin(np.arange(120) / 30), 150 + np.arange(120) * 0.5], 1)
    noisy = path + rng.normal(0, 2, path.shape)
    found = np.array([each[0] for each in steady(spots_of(noisy.tolist()))])

    def trembling(places):
        return np.abs(np.diff(places, 2, axis=0)).mean()

    assert trembling(found) < trembling(noisy) / 10
    assert np.abs(found - path).mean() < np.abs(noisy - path).mean() / 2


def test_a_face_lost_for_a_moment_keeps_its_way_and_a_flash_is_left_out():
    path = [(100.0 + 4 * n, 80.0) for n in range(30)]
    gaps = [None if 10 <= n < 14 else centre for n, centre in enumerate(path)]
    found = steady(spots_of(gaps, size=60.0))
    assert np.allclose([each[0] for each in found], path, atol=1e-6)
    flash = spots_of([None] * 30)
    flash[12] = spots_of([(300.0, 300.0)])[0]
    assert steady(flash) == [[]] * 30
    gone = steady(spots_of(path[:10] + [None] * 20))
    assert [len(each) for each in gone] == [1] * 10 + [0] * 20


def test_faces_are_kept_apart_and_a_video_of_one_frame_has_its_face():
    two = [[*spots_of([(100.0 + n, 80.0)])[0], *spots_of([(300.0 - n, 200.0)])[0]] for n in range(20)]
    for n in range(0, 20, 2):
        two[n].reverse()  # the best comes first, whichever it is
    found = steady(two)
    assert [sorted(each) for each in found] == [
        [pytest.approx((100.0 + n, 80.0)), pytest.approx((300.0 - n, 200.0))] for n in range(20)
    ]
    assert steady(spots_of([(100.0, 80.0)])) == [[(100.0, 80.0)]]
    assert steady([]) == []


def test_a_face_is_not_dragged_through_a_cut():
    frames = [np.full((400, 600, 3), 20 if n < 10 else 200, np.uint8) for n in range(20)]
    path = [(100.0, 80.0)] * 10 + [(112.0, 80.0)] * 10
    assert steady(spots_of(path), frames=frames) == [[pytest.approx(centre)] for centre in path]
    slides = [np.full((400, 600, 3), 200 * (n % 2), np.uint8) for n in range(6)]  # a scene in each frame
    assert [len(each) for each in steady(spots_of([(100.0, 80.0)] * 6), frames=slides)] == [1] * 6


def test_places_are_inside_and_not_looked_for_twice(place, tmp_path, monkeypatch):  # noqa: F811
    frames = [picture(seed=n) for n in range(6)]
    looked = []
    found = [Detection((-9.0, 60.0, 40.0, 50.0), 0.9, None)]
    monkeypatch.setattr(photo, "finder", lambda: lambda pixels: looked.append(1) or found)
    model = open_model(place / "colour")
    places = [spots for _, spots in video.steadied(iter(frames), partial(photo.find_faces, model=model), 3)]
    assert all(
        frame.x - frame.w / 2 >= 0 and frame.y + frame.h / 2 <= 100 for spots in places for frame in [spots[0].frame]
    )
    looked.clear()
    source = output.save_video(frames, tmp_path / "a.mp4", 10, RECIPE)
    command.translate(asked(place, "colour", tmp_path / "b.mp4"), source, False, "photo")
    assert len(looked) == 6


# -------------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["translate", "colour", "a.jpg", "--preview"], "--preview: shows frames of a video; a.jpg is none"),
        (["translate", "colour", "a.mp4", "--show", "faces"], "--show faces: is for photos, and a.mp4 is a video"),
        (["translate", "colour", "a.mp4", "--lines"], "--lines: is for photos"),
        (["edit", "latent", "a.mp4", "Smiling=1", "--show", "faces"], "--show faces: is for photos"),
        (["upscale", "sr", "a.mp4", "--simulate"], "--simulate: is for photos"),
        (["upscale", "sr", "no.mp4"], "no.mp4: not a readable video"),
        (["translate", "colour", "sound.mp4"], "sound.mp4: not a readable video"),
        (["translate", "colour", "a.mp4", "--out", "b.webm"], "b.webm: must be .mp4 or .gif"),
        (["translate", "colour", "a.mp4", "--preview", "--out", "b.mp4"], "b.mp4: must be .png"),
        (["translate", "colour", "a.mp4", "--out", "taken.mp4"], "taken.mp4: already exists"),
        (["translate", "colour", "cut.mp4"], "cut.mp4: not a readable video"),
    ],
)
def test_what_is_wrong_is_one_line(place, tmp_path, monkeypatch, capsys, words, says):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    film(tmp_path / "a.mp4", frames=3)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", "-c:a", "aac", tmp_path / "sound.mp4")
    (tmp_path / "no.mp4").write_bytes(b"no film")
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:500])
    (tmp_path / "taken.mp4").write_bytes(b"mine")
    Image.fromarray(picture()).save(tmp_path / "a.jpg")
    monkeypatch.setattr("sys.argv", ["faceforge", words[0], str(place / words[1]), *words[2:]])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert says in lines[0]
    assert (tmp_path / "taken.mp4").read_bytes() == b"mine"
    assert not [*tmp_path.glob("*.tmp*"), *tmp_path.glob("b.*")]


def test_a_gif_that_does_not_move_is_a_picture(place, tmp_path):  # noqa: F811
    Image.fromarray(picture()).save(tmp_path / "still.gif")
    assert not video.is_video(tmp_path / "still.gif")
    command.translate(asked(place, "colour", tmp_path / "b.png"), tmp_path / "still.gif", False, "photo")
    assert Image.open(tmp_path / "b.png").size == (80, 100)


# ------------------------------------------------------------------------------------------------------------- the page


def sent(function, model, data, **words):
    return handlers.answer(function, model, Ask({key: str(value) for key, value in words.items()}, [data]))


@pytest.mark.parametrize(
    ("function", "name", "words"),
    [
        ("translate", "colour", {}),
        ("translate", "colour", {"whole": 1}),
        ("upscale", "sr", {}),
        ("upscale", "mlp", {}),
        ("edit", "latent", {"changes": "Smiling=1"}),
    ],
)
def test_a_clip_on_the_page_stays_in_memory(place, tmp_path, monkeypatch, function, name, words):  # noqa: F811
    data = film(tmp_path / "a.mov", frames=5, rate="10", sound="pcm_s16le").read_bytes()
    monkeypatch.setattr(handlers, "TemporaryDirectory", None)
    monkeypatch.setattr(tempfile, "mkstemp", None)
    before = set(tmp_path.iterdir())
    made = sent(function, open_model(place / name), data, **words)
    (file,) = made.files["made"]
    assert made.says.startswith("0.5 seconds of video, with its sound")
    assert set(tmp_path.iterdir()) == before
    (tmp_path / "b.mp4").write_bytes(file.data)
    shown = video.open_video(tmp_path / "b.mp4")
    assert (len(list(shown.frames())), shown.rate, shown.sound) == (5, 10, "aac")
    assert output.read_recipe(tmp_path / "b.mp4")["command"] == function


def test_the_sliders_of_the_page_show_a_face_of_the_clip(place, tmp_path):  # noqa: F811
    data = film(tmp_path / "a.mp4", frames=8, rate="10").read_bytes()
    model = open_model(place / "latent")
    (file,) = sent("faces", model, data).files["faces"]
    (tmp_path / "face.png").write_bytes(file.data)
    assert Image.open(tmp_path / "face.png").size == model.size[::-1]


def test_clips_of_the_page_are_bounded(place, tmp_path, monkeypatch):  # noqa: F811
    model = open_model(place / "colour")
    long, large = film(tmp_path / "a.mp4", frames=140, rate="10"), film(tmp_path / "b.mp4", 1, "10", (1944, 1080))
    with pytest.raises(BadInput, match=r"14 seconds; must be at most 12 on this page"):
        sent("translate", model, long.read_bytes())
    with pytest.raises(BadInput, match="1944x1080 pixels; must be at most 1920x1080"):
        sent("translate", model, large.read_bytes())
    with pytest.raises(BadInput, match="this video cannot be used"):
        sent("translate", model, long.read_bytes()[:600])
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(BadInput, match="runs on Linux; elsewhere use the command line"):
        sent("translate", model, long.read_bytes())


def test_a_video_opens_no_address(tmp_path):
    """A list of addresses is a video to ffmpeg."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}\n#EXT-X-ENDLIST\n")
        with pytest.raises(BadInput, match="not a readable video"):
            video.open_video(tmp_path / "a.mp4")
        with pytest.raises(BlockingIOError):
            server.accept()
