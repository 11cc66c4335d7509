"""What the networks see in place of waveforms."""

from mp3net.audio.mdct import MDCT


class Amplitudes:
    """The representation of MP3net: MDCT amplitudes of every channel (section 2.1), times `scale`; for XLA if `xla`."""

    def __init__(self, bands, scale, xla=False):
        self._mdct, self._scale = MDCT(bands, xla=xla), scale
        self.overlap = bands  # a crop of M blocks takes M + 1 of samples

    def encode(self, waveform):
        """`[batch, (M+1) N, channel]` samples to amplitudes `[batch, M, N, channel]`."""
        return self._scale * self._mdct.forward(waveform)

    def decode(self, amplitudes):
        """Amplitudes `[batch, M, N, channel]` to the `[batch, (M-1) N, channel]` samples that are free of aliasing."""
        return self._mdct.inverse(amplitudes / self._scale, trim=True)
