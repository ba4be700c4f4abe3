"""How the weights that ship with the package were made: backbones trained on endless rendered particle fields.

    materials.py   random powders and instruments, far wider than the demonstration set's
    properties.py  what the network learns to read off a picture: the powder's and the instrument's parameters
    scans.py       rendered scans, renewed round by round
    crops.py       batches of crops, turned, mirrored and exposed anew
    networks.py    a small twin of a backbone, and how what it learned is carried over into the whole
    training.py    a twin's training, resumable, by itself or with a teacher
    recipe.py      what each backbone's twin is, sees, and is taught by
    packing.py     folding, and the checks before packing
    packed_weights.py  the package's own files and their cards, written

Keras is used through its backend-neutral parts alone, so that all of it also runs on an accelerator under another
backend than TensorFlow. `scripts/pretrain` is the one command.
"""
