"""Lattices: graph, words, posteriors, paths, pruning, messages, exchange formats, drawing."""

from solomonic.speech.lattice.build import Arc as Arc
from solomonic.speech.lattice.build import build_lattice as build_lattice
from solomonic.speech.lattice.build import take_arcs as take_arcs
from solomonic.speech.lattice.graph import Lattice as Lattice
