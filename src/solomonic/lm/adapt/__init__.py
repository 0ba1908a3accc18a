"""Transductive inference: a trained model that goes on learning from what it is asked about.

    result = adapt(model, text, tokenizer=tokenizer, memory=memory, budget_seconds=5)
    with result.delta.applied_to(model):
        ...                                   # generate from result.state, result.unread

Dynamic evaluation (`dynamic`), test-time training on retrieved neighbours and in-context examples
(`neighbours`), small changes that come off bit-exactly or are kept for a user (`delta`).
"""

from solomonic.lm.adapt.call import AdaptResult as AdaptResult
from solomonic.lm.adapt.call import adapt as adapt
from solomonic.lm.adapt.config import AdaptConfig as AdaptConfig
from solomonic.lm.adapt.delta import Delta as Delta
from solomonic.lm.adapt.delta import applied as applied
from solomonic.lm.adapt.delta import base_fingerprint as base_fingerprint
from solomonic.lm.adapt.dynamic import DynamicEvaluation as DynamicEvaluation
from solomonic.lm.adapt.dynamic import Segment as Segment
from solomonic.lm.adapt.dynamic import dynamic_log_probs as dynamic_log_probs
from solomonic.lm.adapt.learner import Learner as Learner
from solomonic.lm.adapt.neighbours import NeighbourTraining as NeighbourTraining
from solomonic.lm.adapt.neighbours import choose_examples as choose_examples
from solomonic.lm.adapt.neighbours import neighbour_log_probs as neighbour_log_probs
