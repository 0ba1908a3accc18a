"""A transducer's alignment of a reference against the sum over all of its paths."""

import itertools

import torch

from solomonic.speech.alignment import occupancy
from speech_tiny import tiny_model, tiny_pieces


def test_shares_of_all_paths() -> None:
    torch.manual_seed(3)
    net = tiny_model(tiny_pieces()).transducer
    torch.nn.init.normal_(net.joint.weight)
    config, steps, tokens = net.config, 4, torch.tensor([[3, 5]])
    hidden = torch.randn(1, steps, config.hidden_size)
    label = torch.randn(1, 3, config.joint_size)
    scores = net.joint(net.to_joint(hidden)[0, :, None], label).log_softmax(-1)
    stay, said = torch.zeros(steps, 3), torch.zeros(steps, 2)
    total = 0.0
    # Label u is said at step when[u]; at every step the blank is taken behind the labels.
    for when in itertools.combinations_with_replacement(range(steps), 2):
        score, u, visited = 0.0, 0, []
        for t in range(steps):
            while u < 2 and when[u] == t:
                score += float(scores[t, u, tokens[0, u]])
                u += 1
            score += float(scores[t, u, 0])
            visited.append(u)
        weight = float(torch.tensor(score).exp())
        total += weight
        for t, place in enumerate(visited):
            stay[t, place] += weight
        for place, t in enumerate(when):
            said[t, place] += weight
    found = occupancy(net, hidden, label, tokens, torch.tensor([steps]), torch.tensor([2]))
    assert torch.allclose(found[0][0], stay / total, atol=1e-5)
    assert torch.allclose(found[1][0], said / total, atol=1e-5)
