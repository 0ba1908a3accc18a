"""Layers: `y, state = layer(x, state)` for every mixer, and stacks of them from a pattern."""

from solomonic.layers.attention import CacheState as CacheState
from solomonic.layers.attention import FullAttention as FullAttention
from solomonic.layers.bmojo import BMojo as BMojo
from solomonic.layers.bmojo import BMojoState as BMojoState
from solomonic.layers.bmojo import LayerRecall as LayerRecall
from solomonic.layers.bmojo import attention_spec as attention_spec
from solomonic.layers.config import LAYER_KINDS as LAYER_KINDS
from solomonic.layers.config import ModelConfig as ModelConfig
from solomonic.layers.conv import ShortConv as ShortConv
from solomonic.layers.delta import DeltaRule as DeltaRule
from solomonic.layers.linear import Linear as Linear
from solomonic.layers.lstm import LSTM as LSTM
from solomonic.layers.lstm import LSTMState as LSTMState
from solomonic.layers.mlp import SwiGLU as SwiGLU
from solomonic.layers.norm import RMSNorm as RMSNorm
from solomonic.layers.ssm import SSM as SSM
from solomonic.layers.ssm import RecurrentState as RecurrentState
from solomonic.layers.stack import Block as Block
from solomonic.layers.stack import Stack as Stack
from solomonic.layers.stack import StackState as StackState
