"""Prints the accelerators of one kind that TensorFlow sees on this machine: devices.py tpu, or gpu.

Exit status 1 where there is none. It takes a TPU for itself while it looks, so not beside a training.
"""

import sys

ADVICE = {
    "tpu": "Is the project installed with [tpu], is this a TPU VM, and does nothing else use its TPU?",
    "gpu": "Is the project installed with [gpu], and does nvidia-smi list a GPU?",
}


def find(kind):
    """TensorFlow's version and the devices of `kind`."""
    import tensorflow as tf

    if kind == "tpu":
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.__version__, tf.config.list_logical_devices(kind.upper())


def main(arguments):
    if len(arguments) != 1 or arguments[0] not in ADVICE:
        sys.exit(__doc__)
    kind = arguments[0]
    try:
        version, devices = find(kind)
    except Exception as error:  # TensorFlow's own, of many types; its first line says enough
        sys.exit(f"error: TensorFlow cannot use a {kind.upper()}: {str(error).splitlines()[0]}. {ADVICE[kind]}")
    if not devices:
        sys.exit(f"error: TensorFlow {version} sees no {kind.upper()}. {ADVICE[kind]}")
    print(f"TensorFlow {version} sees {len(devices)} {kind.upper()} devices: {' '.join(one.name for one in devices)}")


if __name__ == "__main__":
    main(sys.argv[1:])
