"""The figures of a probe are those of the layers, and the report shows them."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from solomonic.core import ConfigError, DataError
from solomonic.evals.probe import save_page
from solomonic.layers import BMojo
from solomonic.lm.probe import influence as measuring
from solomonic.lm.probe.influence import influence, lags_up_to
from solomonic.lm.probe.measure import ProbeConfig, deadbeat, probe
from solomonic.lm.probe.record import Probe
from solomonic.lm.probe.signals import Drive, recurrent_layers, watch
from solomonic.text import ByteTokenizer
from tiny import tiny_model, tokens

TEXT = "the cat sat on the mat and the dog sat on the cat, " * 4


@pytest.fixture(scope="module")
def found() -> Probe:
    config = ProbeConfig(tokens=160, longest=24, places=8)
    return probe(tiny_model("BMWT"), ByteTokenizer(), TEXT, config, name="a <tiny> one")


def test_drives_replay_the_layer() -> None:
    """The recurrence of the drives' states is the layer's own, segment after segment."""
    model, ids = tiny_model("MB"), tokens(1, 23)[0]
    last: dict[int, torch.Tensor] = {}
    seen: dict[int, list[int]] = {0: [], 1: []}

    def visit(layer: int, _: object, drive: Drive) -> None:
        for stop, state in drive.states(4):
            seen[layer].append(stop)
            last[layer] = state

    watch(model, ids, visit)
    with torch.no_grad():
        _, state = model(ids[None])
    torch.testing.assert_close(last[0], state.stack.layers[0].h[0])
    torch.testing.assert_close(last[1], state.stack.layers[1].ssm.h[0])
    assert seen[0] == [4, 8, 12, 16, 20, 23]


def test_half_lives_are_of_the_decays(found: Probe) -> None:
    model = tiny_model("BMWT")
    ids = torch.tensor([[model.config.vocab_size - 1, *TEXT.encode()][:160]])
    module = recurrent_layers(model)[0]
    kept = []
    module.in_proj.register_forward_hook(lambda m, i, o: kept.append(o))
    with torch.no_grad():
        model(ids)
    step = torch.nn.functional.softplus(kept[0][0, :, -module.heads :] + module.dt_bias)
    lives = math.log(2) / (step * module.A_log.exp())
    shown = found.layers[0].half_lives
    assert shown is not None
    np.testing.assert_allclose(shown[:, 2], lives.quantile(0.5, dim=0).detach(), rtol=1e-9)
    np.testing.assert_allclose(shown[:, 4], lives.quantile(0.95, dim=0).detach(), rtol=1e-9)


def test_what_a_layer_has_not_is_none(found: Probe) -> None:
    kinds = {layer.kind: layer for layer in found.layers}
    assert kinds["T"].deadbeat is None and kinds["T"].half_lives is None
    assert kinds["W"].deadbeat == 5 and kinds["W"].hankel is None
    assert kinds["B"].deadbeat == 5 and kinds["M"].deadbeat == 4
    assert kinds["M"].hankel is not None and kinds["M"].hankel.shape == (2, 4)
    assert found.tokens == 160 and found.slots == 4
    json.dumps(found.to_json())


def test_a_deadbeat_length_is_where_the_window_ends() -> None:
    """A token that far back changes nothing in a layer that only has a window."""
    model = tiny_model("W", short_conv_size=0)
    length = deadbeat(model.config, "W")
    assert length is not None
    one = tokens(1, 12)
    other = one.clone()
    other[0, 3] = (other[0, 3] + 1) % 257
    with torch.no_grad():
        difference = (model(one)[0] - model(other)[0])[0].abs().amax(-1)
    assert float(difference[3 + length - 1]) > 1e-6
    assert float(difference[3 + length :].max()) == 0


def test_influence_is_what_replacing_does() -> None:
    model, ids = tiny_model("B"), tokens(1, 60)[0]
    starts, lags = np.array([4, 9, 20, 30, 31, 33, 40, 41]), lags_up_to(12)
    chance = np.random.default_rng(3)
    with torch.no_grad():
        effect, kept, _ = measuring._batch(model, ids, starts, lags, chance)
    again = np.random.default_rng(3)
    drawn = measuring._others(ids, ids[torch.from_numpy(starts)], again)
    for row, start in enumerate(starts.tolist()):
        changed = ids.clone()
        changed[start] = drawn[row]
        assert changed[start] != ids[start]
        with torch.no_grad():
            trace: list[dict] = []
            clean = model(ids[None], trace=trace)[0][0].log_softmax(-1)
            dirty = model(changed[None])[0][0].log_softmax(-1)
        for column, lag in enumerate(lags.tolist()):
            p, q = clean[start + lag], dirty[start + lag]
            bits = float((p.exp() * (p - q)).sum()) / math.log(2)
            assert effect[row, column] == pytest.approx(bits, abs=1e-9)
            block = (start + lag) // model.config.refresh
            assert kept[row, column] == (start in trace[0]["kept"][0, block].tolist())


def test_no_token_of_the_future_counts_and_short_texts_are_said() -> None:
    assert lags_up_to(12).tolist() == [1, 2, 3, 4, 6, 8, 12]
    assert influence(tiny_model("B"), tokens(1, 2)[0]) is None
    with pytest.raises(DataError, match="at least two"):
        probe(tiny_model("B"), ByteTokenizer(), "a", ProbeConfig())
    with pytest.raises(ConfigError, match="no selective state-space layer"):
        probe(tiny_model("W"), ByteTokenizer(), TEXT, ProbeConfig(tokens=40))


def test_probing_leaves_the_model_as_it_was() -> None:
    model = tiny_model("BM").train()
    probe(model, ByteTokenizer(), TEXT, ProbeConfig(tokens=50, places=8, longest=8))
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert isinstance(model.blocks[0].mixer, BMojo)


class _Page(HTMLParser):
    """Checks that every element ends, and collects what a page would fetch."""

    VOID = ("meta", "circle", "line", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        found = dict(attrs)
        if found.get("role") == "img":
            self.images.append(found)
        self.fetched += [name for name in ("src", "href", "xlink:href") if name in found]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_accessible_and_needs_nothing_else(found: Probe, tmp_path: Path) -> None:
    text = save_page(found, tmp_path / "probe.html").read_text("utf-8")
    reader = _Page()
    reader.feed(text.removeprefix("<!doctype html>"))
    reader.close()
    assert reader.open == []
    assert len(reader.images) >= 1 + 1 + 2 + 2 + 2
    assert all(image["aria-label"] for image in reader.images)
    assert reader.fetched == []
    assert not re.search(r"url\(|@import|https?:", text)
    assert "a &lt;tiny&gt; one" in text and "<tiny>" not in text
    assert "prefers-color-scheme: dark" in text
    assert "nan" not in re.sub(r"<[^>]*title>", "", text).lower()
