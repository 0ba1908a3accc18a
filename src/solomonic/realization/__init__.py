"""Stochastic realization: a sequence as the output of a state, exactly where theory is exact.

float64, numpy and scipy only. Find a model (`identify`, `ho_kalman`, `identify_automaton`,
`fit_texture`, `Stack`), look into it (`memory`, `gramians`, `whiteness`), change it (`reverse`,
`change_speed`, `reduce`, `canonical`) and use it (`kalman_filter`, `forecast`, `sample`).
"""

from solomonic.realization.automaton import Automaton as Automaton
from solomonic.realization.automaton import AutomatonPredictor as AutomatonPredictor
from solomonic.realization.automaton import hidden_markov as hidden_markov
from solomonic.realization.automaton import identify_automaton as identify_automaton
from solomonic.realization.automaton import realize_automaton as realize_automaton
from solomonic.realization.balanced import Balanced as Balanced
from solomonic.realization.balanced import Gramians as Gramians
from solomonic.realization.balanced import Reduced as Reduced
from solomonic.realization.balanced import balance as balance
from solomonic.realization.balanced import canonical_correlations as canonical_correlations
from solomonic.realization.balanced import gramians as gramians
from solomonic.realization.balanced import hankel_singular_values as hankel_singular_values
from solomonic.realization.balanced import reduce as reduce
from solomonic.realization.balanced import truncation as truncation
from solomonic.realization.bilinear import identify_bilinear as identify_bilinear
from solomonic.realization.canonical import Canonical as Canonical
from solomonic.realization.canonical import canonical as canonical
from solomonic.realization.canonical import is_minimal as is_minimal
from solomonic.realization.canonical import minimal as minimal
from solomonic.realization.change import ChangeConfig as ChangeConfig
from solomonic.realization.change import Changes as Changes
from solomonic.realization.change import find_changes as find_changes
from solomonic.realization.diagonal import diagonal_gramians as diagonal_gramians
from solomonic.realization.draw import draw_frames as draw_frames
from solomonic.realization.draw import draw_identified as draw_identified
from solomonic.realization.draw import draw_stack as draw_stack
from solomonic.realization.draw import draw_whiteness as draw_whiteness
from solomonic.realization.errors import IndefiniteNoiseError as IndefiniteNoiseError
from solomonic.realization.errors import NotMinimalError as NotMinimalError
from solomonic.realization.errors import TooFewSamplesError as TooFewSamplesError
from solomonic.realization.errors import UnstableError as UnstableError
from solomonic.realization.hokalman import from_autocovariances as from_autocovariances
from solomonic.realization.hokalman import ho_kalman as ho_kalman
from solomonic.realization.identify import Identified as Identified
from solomonic.realization.identify import identify as identify
from solomonic.realization.kalman import Filtered as Filtered
from solomonic.realization.kalman import Forecast as Forecast
from solomonic.realization.kalman import Smoothed as Smoothed
from solomonic.realization.kalman import expected_loss as expected_loss
from solomonic.realization.kalman import forecast as forecast
from solomonic.realization.kalman import innovations_form as innovations_form
from solomonic.realization.kalman import kalman_filter as kalman_filter
from solomonic.realization.kalman import kalman_smoother as kalman_smoother
from solomonic.realization.kalman import one_step_loss as one_step_loss
from solomonic.realization.layers import Season as Season
from solomonic.realization.layers import StateLayer as StateLayer
from solomonic.realization.layers import Trend as Trend
from solomonic.realization.linear import Linear as Linear
from solomonic.realization.linear import simulate as simulate
from solomonic.realization.reversal import change_speed as change_speed
from solomonic.realization.reversal import reverse as reverse
from solomonic.realization.spectrogram import sound_of as sound_of
from solomonic.realization.spectrogram import spectrogram as spectrogram
from solomonic.realization.split import Memory as Memory
from solomonic.realization.split import Split as Split
from solomonic.realization.split import memory as memory
from solomonic.realization.split import split_memory as split_memory
from solomonic.realization.stack import Components as Components
from solomonic.realization.stack import Stack as Stack
from solomonic.realization.steering import Steering as Steering
from solomonic.realization.steering import least_energy as least_energy
from solomonic.realization.stochastic import StateSpace as StateSpace
from solomonic.realization.stochastic import from_innovations as from_innovations
from solomonic.realization.textures import Texture as Texture
from solomonic.realization.textures import fit_texture as fit_texture
from solomonic.realization.video import load_video as load_video
from solomonic.realization.video import save_video as save_video
from solomonic.realization.whiteness import Periodogram as Periodogram
from solomonic.realization.whiteness import Whiteness as Whiteness
from solomonic.realization.whiteness import periodogram_test as periodogram_test
from solomonic.realization.whiteness import whiteness as whiteness
