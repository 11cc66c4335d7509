"""Installs mp3net, with its configurations inside the package, so that `--gin 95s` finds them anywhere."""

import pathlib
import re

from setuptools import setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "mp3net" / "__init__.py").read_text()).group(1)

setup(
    name="mp3net",
    version=VERSION,
    description="Minutes of music as raw audio, by a convolutional GAN on MDCT amplitudes",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[
        "mp3net",
        "mp3net.aot",
        "mp3net.audio",
        "mp3net.configs",
        "mp3net.data",
        "mp3net.evaluation",
        "mp3net.model",
        "mp3net.pjrt",
        "mp3net.portable",
        "mp3net.training",
    ],
    package_dir={"mp3net.configs": "configs"},
    package_data={"mp3net.configs": ["*.gin"], "mp3net.evaluation": ["page.html", "page.css", "page.js"]},
    install_requires=[
        "numpy>=1.24",
        "gin-config>=0.5",  # configurations
        "soundfile>=0.12",  # reads and writes wav, flac, ogg, mp3
        "soxr>=0.3.5",  # resamples, streaming
        "tqdm>=4.60",  # progress bars
    ],
    extras_require={
        # TensorFlow's builds share one import name, so exactly one of these three is installed.
        "cpu": ["tensorflow-cpu>=2.16", "tensorboard>=2.16"],
        "gpu": ["tensorflow[and-cuda]>=2.16", "tensorboard>=2.16"],
        # Under libtpu 0.0.32 or later tensorflow-tpu 2.20.0 aborts as it is imported; 0.0.21 is of its time.
        "tpu": ["tensorflow-tpu>=2.19.1,<2.21", "libtpu<0.0.22", "tensorboard>=2.16"],
        # The retired TPU Nodes, reached by name.
        "tpu-node": ["tensorflow-tpu>=2.19.1,<2.21", "libtpu<0.0.22", "tensorboard>=2.16", "cloud-tpu-client>=0.10"],
        # tensorflow-io's last release loads under TensorFlow 2.16 alone.
        "tfio": ["tensorflow-io==0.37.1", "tensorflow-cpu==2.16.*", "numpy<2"],
        # The TPU's compiler, which runs without a TPU. Older releases were not tried; these need Python 3.11.
        "aot": ["jax>=0.10.2; python_version >= '3.11'", "libtpu>=0.0.51; python_version >= '3.11'"],
        # Training through JAX, beside [cpu] (TensorFlow 2.19 or later: older ones want another ml_dtypes).
        "jax": ["jax>=0.6.2"],
        "jax-cuda": ["jax[cuda12]>=0.6.2"],
        "jax-tpu": ["jax[tpu]>=0.6.2"],
        "corpus": ["mido>=1.3"],  # scripts/render_corpus.py reads MIDI
        "plots": ["matplotlib>=3.8"],  # python -m mp3net.figures draws with it; training and generating do without
        # The last three execute the notebooks.
        "test": ["pytest>=8", "pytest-xdist>=3.8", "ruff>=0.6", "scipy>=1.11", "setuptools>=71"]
        + ["nbclient>=0.10", "nbformat>=5.9", "ipykernel>=6.29"],
    },
)
