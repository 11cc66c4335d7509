"""tensorflow-io's audio reader and resampler, in the graph: the optional backend of the pipeline (extra `[tfio]`,
TensorFlow 2.16).

Its resampler did 13 times real time where soxr did 935, with aliases at -85 dB instead of -141, and is late by some
samples; it is here for those whose hosts must run no Python per crop.
"""

import soundfile
import tensorflow as tf

from mp3net.errors import UserError

_MARGIN_S = 0.05  # read on either side of a crop, for the resampler to start and end in


def check(recordings):
    """Raises `UserError` where tensorflow-io is missing, or a recording is not one that it reads."""
    try:
        import tensorflow_io  # noqa: F401
    except Exception as error:  # under another TensorFlow its libraries fail to load, with errors of several types
        raise UserError(
            f"data.reader = 'tensorflow-io': it did not load ({str(error).splitlines()[0][:120]}). "
            "In an environment of its own: pip install 'mp3net[tfio]'. Or use data.reader = 'soxr'."
        ) from None
    for recording in recordings:
        info = soundfile.info(recording.path)
        if info.format not in ("WAV", "FLAC") or info.subtype != "PCM_16":
            raise UserError(
                f"{recording.path} is {info.format} {info.subtype}; tensorflow-io reads 16-bit WAV and FLAC. "
                "Use data.reader = 'soxr', or prepare the corpus first."
            )


def read_crop(recordings, index, start, count, rate_hz, channels):
    """`[count, channels]` float32 from sample `start`, at `rate_hz`, of recording `index`; both are scalar int64."""
    import tensorflow_io as tfio

    path = tf.constant([recording.path for recording in recordings])[index]
    rate_in = tf.constant([recording.rate_hz for recording in recordings], tf.int64)[index]
    margin = int(_MARGIN_S * rate_hz)
    lead = tf.minimum(start, margin)
    first = (start - lead) * rate_in // rate_hz
    last = first + (lead + count + margin) * rate_in // rate_hz + 1
    audio = tfio.audio.AudioIOTensor(path, dtype=tf.int16)
    waveform = tf.cast(audio[first:last], tf.float32) / 32768.0
    if channels == 1:
        waveform = tf.reduce_mean(waveform, axis=1, keepdims=True)
    else:
        waveform = tf.broadcast_to(waveform, [tf.shape(waveform)[0], channels])
    resampled = tf.cond(rate_in == rate_hz, lambda: waveform, lambda: tfio.audio.resample(waveform, rate_in, rate_hz))
    crop = resampled[lead : lead + count]
    # At the end of a file the resampler gives a little less than was asked.
    return tf.pad(crop, [[0, count - tf.shape(crop)[0]], [0, 0]])
