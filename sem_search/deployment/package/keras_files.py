"""Models that were registered before format 3: their networks are files of Keras, and need TensorFlow to be read.

trunk.keras     the frozen part
head.json       the architecture that all heads share
head_0.npz ...  the weights of each fold's head
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sem_search.deployment.package.description import ClassifierDescription
from sem_search.errors import StoreError
from sem_search.files import unpack_arrays
from sem_search.transfer.runtime import load_tensorflow

if TYPE_CHECKING:
    from sem_search.transfer.served_graphs import ServedGraphs

TRUNK_FILE = "trunk.keras"
HEAD_FILE = "head.json"


def name_head_weights(index: int) -> str:
    """Return the file that holds the weights of one head."""
    return f"head_{index}.npz"


def convert_keras_files(folder: Path, *, description: ClassifierDescription) -> "ServedGraphs":
    """Return the graphs of such a model, which take its place; they give its numbers.

    Cost: some seconds, and for the trunk as many more on the first time on a machine.

    Raises:
        StoreError: The weights do not fit the heads, or TensorFlow is not installed.
    """
    if find_spec("tensorflow") is None:
        raise StoreError(
            "This model was registered by an earlier sem_search, as files of Keras: they are read with TensorFlow, "
            "which is not installed here. Install all that sem_search requires, or use `mlflow models serve`."
        )
    load_tensorflow()
    from sem_search.transfer.backbones import get_backbone
    from sem_search.transfer.served_graphs import convert_files

    names = [name_head_weights(index) for index in range(description.n_heads)]
    try:
        return convert_files(
            trunk_file=folder / TRUNK_FILE,
            head_json=(folder / HEAD_FILE).read_text(encoding="utf-8"),
            head_weights=[list(unpack_arrays((folder / name).read_bytes()).values()) for name in names],
            backbone=get_backbone(description.backbone),
            convolution=description.convolution,
        )
    except ValueError as error:
        raise StoreError(f"The model's files of Keras cannot be read, or do not fit one another: {error}") from error
