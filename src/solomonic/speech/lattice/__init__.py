"""Lattices: graph, words, posteriors, paths, pruning, messages, exchange formats, drawing."""

from solomonic.speech.lattice.build import Arc as Arc
from solomonic.speech.lattice.build import build_lattice as build_lattice
from solomonic.speech.lattice.build import take_arcs as take_arcs
from solomonic.speech.lattice.graph import Lattice as Lattice
from solomonic.speech.lattice.oracle import OracleErrors as OracleErrors
from solomonic.speech.lattice.oracle import oracle as oracle
from solomonic.speech.lattice.oracle import oracle_errors as oracle_errors
from solomonic.speech.lattice.paths import LatticePath as LatticePath
from solomonic.speech.lattice.paths import best_path as best_path
from solomonic.speech.lattice.paths import n_best as n_best
from solomonic.speech.lattice.posterior import arc_confidences as arc_confidences
from solomonic.speech.lattice.posterior import arc_posteriors as arc_posteriors
from solomonic.speech.lattice.posterior import frame_cut as frame_cut
from solomonic.speech.lattice.posterior import node_cut as node_cut
from solomonic.speech.lattice.posterior import word_confidences as word_confidences
from solomonic.speech.lattice.prune import arc_losses as arc_losses
from solomonic.speech.lattice.prune import density as density
from solomonic.speech.lattice.prune import prune as prune
from solomonic.speech.lattice.prune import prune_to_bytes as prune_to_bytes
from solomonic.speech.lattice.wire import DEFAULT_LIMIT as DEFAULT_LIMIT
from solomonic.speech.lattice.wire import LatticeMessage as LatticeMessage
from solomonic.speech.lattice.wire import decode_message as decode_message
from solomonic.speech.lattice.wire import encode_message as encode_message
from solomonic.speech.lattice.wire import limit_for as limit_for
from solomonic.speech.lattice.words import word_lattice as word_lattice
