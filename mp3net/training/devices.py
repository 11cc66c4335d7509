"""Where training runs. The one module that knows of devices and replicas."""

import tensorflow as tf


class Devices:
    """One device: the first GPU that TensorFlow sees, else the CPU. It takes the whole batch."""

    def __init__(self):
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:  # else the first process to come takes all memory, and a `generate` beside a run fails
            tf.config.experimental.set_memory_growth(gpu, True)
        self.name = "GPU" if gpus else "CPU"

    @staticmethod
    def cross_replica_mean(tensor):
        """The mean of `tensor` over replicas: itself."""
        return tensor

    @staticmethod
    def compile(step):
        """`step` as one graph."""
        return tf.function(step, autograph=False)
