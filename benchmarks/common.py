"""What the benchmarks share: a clock, and the bound that they compare with."""

import time


def tensorflow():
    """TensorFlow, without its start-up chatter."""
    from mp3net import cli

    cli.require_tensorflow()
    import tensorflow

    return tensorflow


def seconds_of(function):
    """Wall-clock seconds of one call."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


_products = {}


def matmul_gflops(size=2048, repeats=5):
    """This machine's float32 matrix product at `size` x `size`, GFLOP/s:

    The best of `repeats`, a multiply-add counting as 2.
    """
    import tensorflow as tf

    if size not in _products:
        matrix = tf.random.stateless_normal([size, size], [0, 0])
        _products[size] = tf.function(lambda: tf.linalg.matmul(matrix, matrix), autograph=False)
        _products[size]()
    return 2 * size**3 / min(seconds_of(_products[size]) for _ in range(repeats)) / 1e9
