"""Dynamic textures: poles, reversed statistics, speed, frames in and out, spectrograms."""

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize

from realization.processes import close
from solomonic.core.errors import ConfigError, DataError, ShapeError
from solomonic.realization import (
    IndefiniteNoiseError,
    NotMinimalError,
    StateSpace,
    Texture,
    TooFewSamplesError,
    fit_texture,
    load_video,
    save_video,
    sound_of,
    spectrogram,
)


def waves(seed: int, steps: int = 400) -> tuple[StateSpace, np.ndarray]:
    """Ten travelling waves that come and go, 24 by 24, with some noise: 20 states."""
    random = np.random.default_rng(seed)
    radius, angle = np.linspace(0.985, 0.998, 10), np.linspace(0.12, 1.6, 10)
    A = np.zeros((20, 20))
    for k, (r, a) in enumerate(zip(radius, angle, strict=True)):
        turn = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        A[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = r * np.array(turn)
    y, x = np.mgrid[:24, :24] / 24
    images = []
    for k in range(10):
        phase = 2 * np.pi * ((1 + k % 3) * x + (k // 3) * y)
        images += [np.cos(phase).ravel(), np.sin(phase).ravel()]
    model = StateSpace(A, np.eye(20), np.eye(20) - A @ A.T, np.zeros((20, 20)))
    frames = model.sample(steps, seed) @ np.array(images)
    frames = 0.5 + 0.05 * (frames + 0.02 * random.standard_normal(frames.shape))
    return model, frames.reshape(steps, 24, 24)


@pytest.fixture(scope="module")
def texture() -> Texture:
    return fit_texture(waves(0)[1])


@pytest.mark.parametrize("seed", range(3))
def test_the_poles_are_found(seed: int) -> None:
    model, frames = waves(seed)
    found = fit_texture(frames)
    apart = np.abs(model.poles()[:, None] - found.poles())
    rows, columns = scipy.optimize.linear_sum_assignment(apart)
    assert apart[rows, columns].max() < 0.02
    assert found.order == 20
    assert 0.99 < found.scaled <= 1
    assert found.psnr > 40


def test_frames_are_rebuilt_and_residual_is_the_noise() -> None:
    _, frames = waves(0)
    found = fit_texture(frames)
    rebuilt = found.frames(found.coordinates(frames))
    assert np.sqrt(((rebuilt - frames) ** 2).mean()) == pytest.approx(found.residual, rel=1e-6)
    assert found.residual == pytest.approx(0.001, rel=0.1)
    close(found.basis.T @ found.basis, np.eye(20), 1e-12)
    close(found.first, found.coordinates(frames[:1])[0], 1e-12)


def test_more_frames_than_pixels_and_fewer_agree() -> None:
    _, frames = waves(1, steps=100)
    wide = fit_texture(frames)
    doubled = fit_texture(np.concatenate([frames, frames], 1))  # 1,152 pixels, 100 frames
    close(np.abs(doubled.poles()), np.abs(wide.poles()), 1e-8)
    few = frames[:, :4, :8]
    assert fit_texture(few, 5).basis.shape == (32, 5)


def test_backwards_has_the_reversed_statistics(texture: Texture) -> None:
    forward, backward = texture.dynamics, texture.backwards().dynamics
    close(backward.autocovariance(5), forward.autocovariance(5).swapaxes(1, 2), 1e-11)
    lag = forward.autocovariance(2)[1]
    assert np.abs(lag - lag.T).max() > 0.1 * np.abs(lag).max()  # time has a direction here
    path = texture.coordinates(texture.backwards().synthesize(6000, seed=1))
    step = np.linalg.lstsq(path[:-1], path[1:], rcond=None)[0].T
    covariance = forward.autocovariance(1)[0]
    assert np.abs(step - lag.T @ np.linalg.inv(covariance)).max() < 0.05
    assert np.abs(step - lag @ np.linalg.inv(covariance)).max() > 0.3
    twice = texture.backwards().backwards().dynamics
    close(twice.A, forward.A, 1e-8)


def test_longer_faster_slower(texture: Texture) -> None:
    assert texture.synthesize(900).shape == (900, 24, 24)
    fast = texture.speed(2)
    close(fast.dynamics.A, texture.dynamics.A @ texture.dynamics.A, 1e-12)
    close(fast.dynamics.state_covariance(), texture.dynamics.state_covariance(), 1e-9)
    slow = texture.speed(0.5)
    close(slow.dynamics.A @ slow.dynamics.A, texture.dynamics.A, 1e-11)
    close(slow.dynamics.autocovariance(5)[::2], texture.dynamics.autocovariance(3), 1e-9)
    np.testing.assert_array_equal(texture.synthesize(3, seed=5), texture.synthesize(3, seed=5))


def test_noise_that_half_speed_would_need_is_refused(texture: Texture) -> None:
    A, n = texture.dynamics.A, texture.order
    thin = np.zeros((n, n))
    thin[0, 0] = 1.0
    one = StateSpace(A, np.eye(n), thin, np.zeros((n, n)))
    thin_texture = Texture(one, texture.basis, texture.mean, (24, 24), texture.first, 0, 0, 1)
    with pytest.raises(IndefiniteNoiseError, match="indefinite"):
        thin_texture.speed(0.5)


def test_an_unstable_estimate_is_shrunk_and_says_so() -> None:
    t = np.arange(60)[:, None, None]
    growing = np.exp(0.05 * t) * np.linspace(1, 2, 12).reshape(1, 3, 4)
    growing = growing + 1e-3 * np.random.default_rng(0).standard_normal(growing.shape)
    found = fit_texture(growing, 1)
    assert found.scaled < 1
    assert found.dynamics.radius == pytest.approx(0.999)


def test_frames_that_make_no_texture_are_refused() -> None:
    _, frames = waves(0, steps=30)
    with pytest.raises(TooFewSamplesError, match="at least 42"):
        fit_texture(frames, 40)
    with pytest.raises(DataError, match="do not change"):
        fit_texture(np.ones((30, 4, 4)), 2)
    with pytest.raises(NotMinimalError, match="only 1 directions"):
        fit_texture(np.arange(30.0)[:, None, None] * np.ones((1, 4, 4)), 2)
    with pytest.raises(DataError, match="frame 3 holds NaN"):
        fit_texture(np.where(np.arange(30)[:, None, None] == 3, np.nan, frames))
    with pytest.raises(ShapeError, match="time, height, width"):
        fit_texture(np.ones(30))
    with pytest.raises(ShapeError, match=r"each be \(24, 24\)"):
        fit_texture(frames, 3).coordinates(frames[:, :3])


def test_a_gif_comes_back(tmp_path: Path, texture: Texture) -> None:
    frames = texture.synthesize(12)
    path = save_video(frames, tmp_path / "waves.gif", rate=20, limits=(0, 1), enlarge=2)
    back = load_video(path)
    assert back.shape == (12, 48, 48)
    assert np.abs(back[:, ::2, ::2] - np.clip(frames, 0, 1)).max() <= 0.5 / 255 + 1e-9
    colours = save_video(np.repeat(frames[..., None], 3, 3), tmp_path / "colour.gif")
    assert load_video(colours).shape == (12, 24, 24)


def test_files_that_cannot_be(
    tmp_path: Path, texture: Texture, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = texture.synthesize(2)
    with pytest.raises(ConfigError, match=r"\.gif or \.mp4"):
        save_video(frames, tmp_path / "waves.avi")
    with pytest.raises(ShapeError, match="frames must be"):
        save_video(frames[0], tmp_path / "waves.gif")
    with pytest.raises(ConfigError, match="above 0 frames"):
        save_video(frames, tmp_path / "waves.gif", rate=0)
    with pytest.raises(DataError, match="cannot read"):
        load_video(tmp_path / "none.gif")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigError, match="pip install av"):
        save_video(frames, tmp_path / "waves.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_mp4_is_one(tmp_path: Path, texture: Texture) -> None:
    av = pytest.importorskip("av")
    path = save_video(texture.synthesize(10), tmp_path / "waves.mp4", enlarge=3)
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 10


def test_a_sound_becomes_frames_and_sound_again() -> None:
    t = np.arange(16000) / 16000
    sound = np.sin(2 * np.pi * 440 * t) * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))
    sound = sound + 0.1 * np.random.default_rng(0).standard_normal(16000)
    frames = spectrogram(sound, window=256)
    assert frames.shape[1] == 129
    found = fit_texture(frames, 8)
    assert found.shape == (129,)
    new = sound_of(found.synthesize(200))
    power = np.abs(np.fft.rfft(new)) ** 2
    assert np.argmax(power) / len(new) * 16000 == pytest.approx(440, abs=40)
    again = spectrogram(sound_of(frames, iterations=30), window=256)[: len(frames)]
    assert np.abs(again[2:-2] - frames[2:-2]).mean() < 0.7
    with pytest.raises(ConfigError, match="multiple of 4"):
        spectrogram(sound, window=255)
    with pytest.raises(TooFewSamplesError, match="less than a window"):
        spectrogram(sound[:100])
