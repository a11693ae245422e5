"""Files with functions that build small networks, for the tests of own networks."""

from __future__ import annotations

from pathlib import Path

NETS = '''
"""A small network."""
import keras

from blocks import block


def build(input_shape, classes, width=4, softmax=True):
    inputs = keras.Input(input_shape)
    x = block(inputs, width)
    x = x + block(x, width)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.3)(x)
    outputs = keras.layers.Dense(classes, activation="softmax" if softmax else None)(x)
    return keras.Model(inputs, outputs)
'''
BLOCKS = """
from keras import layers


def block(x, width):
    x = layers.Conv2D(width, 3, padding="same")(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
"""


def written(folder: Path, nets: str = NETS, blocks: str = BLOCKS) -> str:
    """Write `nets.py` and `blocks.py` into a folder; return `nets.py:build` with its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nets.py").write_text(nets, encoding="utf-8")
    (folder / "blocks.py").write_text(blocks, encoding="utf-8")
    return f"{folder / 'nets.py'}:build"
