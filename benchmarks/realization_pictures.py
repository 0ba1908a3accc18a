"""Draws the pictures of docs/realization.md: `python benchmarks/realization_pictures.py`."""

from pathlib import Path

import numpy as np

from solomonic.realization import (
    Season,
    Stack,
    StateLayer,
    StateSpace,
    Trend,
    draw_frames,
    draw_identified,
    draw_stack,
    draw_whiteness,
    fit_texture,
    identify,
    kalman_filter,
    save_video,
    whiteness,
)

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def draw_order() -> None:
    """Order selection, and residuals of too few states and of enough."""
    A = np.zeros((4, 4))
    A[0, 0], A[1, 1], A[2:, 2:] = -0.5, 0.7, [[0.79, 0.43], [-0.43, 0.79]]
    random = np.random.default_rng(3)
    C, noise = random.standard_normal((2, 4)), random.standard_normal((4, 4))
    y = StateSpace(A, C, noise @ noise.T, np.eye(2)).sample(10_000, 1)
    found = identify(y)
    draw_identified(found, IMAGES / "realization-order.svg")
    tests = {"series": whiteness(y)}
    for order in (2, found.order):
        errors = kalman_filter(identify(y, order).model, y).innovations
        tests[f"errors of {order} states"] = whiteness(errors)
    draw_whiteness(tests, len(y), IMAGES / "realization-whiteness.svg")


def draw_parts() -> None:
    """A series with trend, season and roughness, and a shift near the end."""
    random, t = np.random.default_rng(0), np.arange(900)
    rough, noise = np.zeros(900), 0.5 * random.standard_normal(900)
    for k in range(2, 900):
        rough[k] = 1.2 * rough[k - 1] - 0.6 * rough[k - 2] + noise[k]
    y = 10 + 0.02 * t + 3 * np.sin(2 * np.pi * t / 24) + np.cos(4 * np.pi * t / 24) + rough
    stack = Stack([Trend(), Season(24), StateLayer()]).fit(y[:700])
    y[800:] += 6
    draw_stack(stack, y, IMAGES / "realization-stack.svg", stack.anomalies(y))


def draw_texture() -> None:
    """Waves with their noise, and what twenty states make of them."""
    yy, xx = np.mgrid[:24, :24] / 24
    random = np.random.default_rng(1)
    radius, angle = np.linspace(0.985, 0.998, 10), np.linspace(0.1, 0.9, 10)
    A, images = np.zeros((20, 20)), []
    for k, (r, a) in enumerate(zip(radius, angle, strict=True)):
        turn = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        A[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = r * np.array(turn)
        phase = 2 * np.pi * ((1 + k % 3) * xx + (k // 3) * yy)
        images += [np.cos(phase).ravel() / (k + 2), np.sin(phase).ravel() / (k + 2)]
    process = StateSpace(A, np.eye(20), np.eye(20) - A @ A.T, np.zeros((20, 20)))
    pixels = process.sample(400, 1) @ np.array(images) + 0.02 * random.standard_normal((400, 576))
    frames = pixels.reshape(400, 24, 24)
    texture = fit_texture(frames, 20)
    rows = {
        "given": frames[:60],
        "new": texture.synthesize(60, 2),
        "backwards": texture.backwards().synthesize(60, 3),
        "half speed": texture.speed(0.5).synthesize(60, 4),
    }
    draw_frames(rows, IMAGES / "texture-frames.png")
    black = np.full((60, 24, 2), frames.min())
    strip = np.concatenate([part for row in rows.values() for part in (row, black)][:-1], 2)
    low, high = float(strip.min()), float(strip.max())
    strip = np.round((strip - low) / (high - low) * 15)  # 16 greys keep the file small
    save_video(strip[:40], IMAGES / "texture-waves.gif", rate=12.5, limits=(0, 15), enlarge=4)


if __name__ == "__main__":
    draw_order()
    draw_parts()
    draw_texture()
