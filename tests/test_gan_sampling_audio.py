"""Sound: what it says in each frame, and that it is in the video."""

import wave
from fractions import Fraction

import av
import numpy as np
import pytest

from gan.errors import RequestError
from gan.sampling import animation, audio

RATE = 44_100
CLICKS = [0.5, 1.013, 1.777, 2.4, 3.333]  # seconds


def write(path, samples, rate=RATE):
    """Samples in [-1, 1], [S] or [S, channels] -> WAV of 16 bits."""
    columns = np.atleast_2d(samples.T).T
    with wave.open(str(path), "wb") as file:
        file.setnchannels(columns.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(columns, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def tone(frequency, seconds=2.0, rate=RATE):
    """A sine that swells and fades."""
    t = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * frequency * t) * np.clip(np.minimum(t, seconds - t) / 0.3, 0, 1)


def clicks(seconds=4.0):
    samples = np.zeros(round(seconds * RATE))
    samples[[int(time * RATE) for time in CLICKS]] = 0.9
    return samples


def bursts(seconds=4.0):
    samples, rng = np.zeros(round(seconds * RATE)), np.random.default_rng(0)
    for time in (time for time in CLICKS if time < seconds - 0.1):
        place = slice(int(time * RATE), int(time * RATE) + 4000)
        samples[place] = rng.uniform(-0.5, 0.5, 4000) * np.linspace(1, 0, 4000)
    return samples


@pytest.mark.parametrize("fps", [12, 24, 30, 60])
@pytest.mark.parametrize("made", [clicks, bursts])
def test_onsets_are_where_they_are_heard(made, fps, tmp_path):
    sound = audio.read(write(tmp_path / "clicks.wav", made()))
    onset = audio.features(sound, Fraction(fps), 4 * fps)["onset"]
    rises = [index for index in range(1, len(onset)) if onset[index] > onset[index - 1] + 0.2]
    first = [index for index in rises if index - 1 not in rises]
    assert len(first) == len(CLICKS)
    for index, time in zip(first, CLICKS, strict=True):
        assert abs(index - int(time * fps)) <= 1
    assert onset.max() == 1 and onset.min() >= 0 and len(onset) == 4 * fps


@pytest.mark.parametrize(("frequency", "moved"), [(80, "low"), (700, "mid"), (4000, "high")])
def test_a_tone_moves_its_band_alone(frequency, moved, tmp_path):
    sound = audio.read(write(tmp_path / "tone.wav", tone(frequency)))
    found = audio.features(sound, Fraction(30), 60)
    assert found[moved].max() == pytest.approx(1, abs=0.05) and found[moved][[0, -1]].max() < 0.3
    for other in {"low", "mid", "high"} - {moved}:
        assert found[other].max() < 0.05
    assert found["onset"].max() < 0.5  # it swells


def test_loudness_follows_the_sound(tmp_path):
    samples = np.concatenate([tone(80, 1.0), np.zeros(RATE), 0.5 * tone(80, 1.0)])
    low = audio.features(audio.read(write(tmp_path / "a.wav", samples)), Fraction(30), 90)["low"]
    assert low[15] > 0.95 and low[45] < 0.01 and low[75] == pytest.approx(0.5, abs=0.05)


def test_silence_says_nothing(tmp_path):
    found = audio.features(audio.read(write(tmp_path / "silence.wav", np.zeros(RATE))), Fraction(30), 30)
    assert all(not values.any() and np.isfinite(values).all() for values in found.values())


def test_a_short_sound_and_one_in_parts_are_read_alike(tmp_path, monkeypatch):
    samples = bursts()
    file = write(tmp_path / "a.wav", samples)
    whole = audio.features(audio.read(file), Fraction(30), 120)
    monkeypatch.setattr(audio, "AT_A_TIME", 50)
    for name, values in audio.features(audio.read(file), Fraction(30), 120).items():
        assert np.allclose(values, whole[name], atol=1e-6), name
    short = audio.features(audio.read(write(tmp_path / "short.wav", samples[:100])), Fraction(30), 1)
    assert all(len(values) == 1 and np.isfinite(values).all() for values in short.values())


def test_channels_and_rates_are_brought_together(tmp_path):
    stereo = write(tmp_path / "stereo.wav", np.stack([tone(80, rate=16_000), np.zeros(32_000)], 1), 16_000)
    sound = audio.read(stereo)
    assert sound.seconds == pytest.approx(2, abs=0.001) and len(sound.samples) == round(sound.seconds * audio.RATE)
    assert audio.read(stereo, 0.5).seconds == Fraction(1, 2) and len(audio.read(stereo, 0.5).samples) == 11_025
    with pytest.raises(RequestError, match=r"`seconds` must be at most those of the sound, 2\.\d+; got 3 instead"):
        audio.read(stereo, 3)


def test_other_files_are_refused(tmp_path):
    frames = [np.zeros([32, 32, 3], np.uint8)] * 3
    animation.save(frames, tmp_path / "silent.mp4", fps=10)
    (tmp_path / "text.wav").write_text("no sound")
    sound = write(tmp_path / "a.wav", tone(80))
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:2,\n{sound}\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile {sound.name}\n")
    for name in ("text.wav", "absent.wav", "list.m3u8", "list.txt"):
        with pytest.raises(RequestError, match="`audio` must be a file of sound"):
            audio.read(tmp_path / name)
    with pytest.raises(RequestError, match=r"`audio` must hold sound; .* holds none"):
        audio.read(tmp_path / "silent.mp4")
    with pytest.raises(RequestError, match=r"`audio` must hold sound; .* holds none"):
        audio.read(write(tmp_path / "empty.wav", np.zeros(0)))


@pytest.mark.parametrize("seconds", [None, 1.23])
@pytest.mark.parametrize("fps", [10, 30])
def test_the_video_has_the_sound_and_both_are_as_long(seconds, fps, tmp_path):
    sound = audio.read(write(tmp_path / "a.wav", tone(440)), seconds)
    count = round(sound.seconds * fps)
    out = tmp_path / "a.mp4"
    animation.save([np.full([32, 32, 3], 9 * i % 255, np.uint8) for i in range(count)], out, fps, sound=sound)
    with av.open(str(out)) as container:
        video, track = container.streams.video[0], container.streams.audio[0]
        lengths = [float(stream.duration * stream.time_base) for stream in (video, track)]
        assert video.frames == count and video.start_time == 0
    assert lengths[0] == pytest.approx(float(sound.seconds), abs=1 / fps)
    assert lengths[1] == pytest.approx(float(sound.seconds), abs=0.001)
    heard = audio.read(out)
    assert float(heard.seconds) == pytest.approx(float(sound.seconds), abs=0.05)
    # It is the tone, not turned down, and where it was.
    both = [s.samples[: min(len(sound.samples), len(heard.samples))] for s in (sound, heard)]
    assert np.corrcoef(*both)[0, 1] > 0.98 and both[1].std() == pytest.approx(both[0].std(), rel=0.05)


def test_pictures_that_move_have_no_sound(tmp_path):
    sound = audio.read(write(tmp_path / "a.wav", tone(440)))
    for suffix in (".webp", ".gif"):
        with pytest.raises(RequestError, match=r"`path` must end in \.mp4 with `audio`"):
            animation.save([np.zeros([8, 8, 3], np.uint8)], tmp_path / f"a{suffix}", 10, sound=sound)
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]
