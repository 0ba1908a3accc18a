"""Reranking: a language model with each user's memory picks the sentence from a lattice."""

from solomonic.serve.rescore.config import RerankConfig as RerankConfig
from solomonic.serve.rescore.internal import InternalLM as InternalLM
from solomonic.serve.rescore.loading import load_internal as load_internal
from solomonic.serve.rescore.loading import load_reranker as load_reranker
from solomonic.serve.rescore.memory import Memory as Memory
from solomonic.serve.rescore.reranker import Hit as Hit
from solomonic.serve.rescore.reranker import Hypothesis as Hypothesis
from solomonic.serve.rescore.reranker import Reranked as Reranked
from solomonic.serve.rescore.reranker import Reranker as Reranker
