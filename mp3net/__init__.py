"""MP3net: minutes of music as raw audio, by a convolutional GAN on MDCT amplitudes."""

__version__ = "0.1.0"
