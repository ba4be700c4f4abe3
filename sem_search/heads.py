"""The kinds of heads, in a file of their own so that checking them loads no heavy library."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Head = Literal["linear", "finetune", "linear_init"]
"""How a head comes about: `finetune` trains the last convolution and new layers from random first weights; `linear` is
the exact solution of multinomial logistic regression on the pooled outputs of the last convolution, which stays as it
is; `linear_init` fine-tunes from there."""

HEAD_NAMES: Mapping[Head, str] = MappingProxyType(
    {"finetune": "fine-tuned", "linear_init": "fine-tuned from the linear head", "linear": "linear"}
)
"""What people read, in the order of figures and tables."""
