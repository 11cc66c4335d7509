"""Trains a small model for some rounds on the devices named, and writes what came of it: for tests of equality.

    python tests/replicas.py DEVICE OUT.npz [--sent] [--parts N ...]

A process of its own, since TensorFlow's devices are chosen once; one of several hosts where TF_CONFIG says so.
"""

import argparse
import dataclasses
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from helpers import assert_close

from mp3net.aot import lowering
from mp3net.model.architecture import Architecture
from mp3net.model.layers import minibatch_stddev
from mp3net.model.mp3net import MP3net
from mp3net.training import devices as where

SIZES = Architecture(
    model_blocks=1, base=(2, 2), latent_size=8, shallowest_features=4, max_features=8, head_features=8, rate_hz=4000
)
BATCH, ROUNDS = 8, 3


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("device")
    parser.add_argument("out")
    parser.add_argument("--sent", action="store_true")
    parser.add_argument("--parts", type=int, nargs="+", default=[1], help="micro-batches: a training for each")
    options = parser.parse_args()
    devices = where.choose(options.device)
    devices._feeds_all = options.sent
    found = {"replicas": devices.replicas, "hosts": devices.hosts, **deviation(devices)}
    for parts in options.parts:
        with devices.scope():
            system = MP3net(SIZES, batch_size=BATCH, critic_steps=1).build(devices.place, seed=1)
        found |= {f"{name}{f'_in_{parts}' * (parts > 1)}": v for name, v in training(system, devices, parts).items()}
    np.savez(options.out, **found)


def batches(host, rounds, parts=1):
    """Elements `[rounds, 1, share, ...]` for consecutive replicas, of one fixed sequence of examples.

    They are dealt so that each of the `parts` which the replicas take together is of the same examples however many
    the replicas, for the minibatch standard deviation is of a part.
    """
    real = 0.2 * tf.random.stateless_normal([rounds, 1, BATCH, *SIZES.output_shape], [5, 5])
    examples = tf.reshape(tf.range(rounds * BATCH, dtype=tf.int64), [rounds, 1, BATCH])
    dealt = np.arange(BATCH).reshape(parts, host.replicas, -1).transpose(1, 0, 2).reshape(host.replicas, -1)
    shares = [
        tuple(tf.gather(each, dealt[replica], axis=2) for each in (real, examples))
        for replica in range(host.first, host.first + host.count)
    ]
    stacked = tf.nest.map_structure(lambda *each: tf.stack(each), *shares)
    return tf.data.Dataset.from_tensor_slices(stacked).repeat()


def deviation(devices):
    """The feature that the minibatch standard deviation adds, of the first batch."""

    def replica(data):
        return minibatch_stddev(data[0][0], devices.place.cross_replica_mean)[0, 0, 0, -1:]

    call = devices.compile(replica, 1, [])
    data = next(iter(devices.feed(lambda host: batches(host, 1), lambda audio: audio)))
    return {"feature": np.asarray(call(data, tf.constant(0), tf.constant(1)))[0, 0]}


def training(system, devices, parts):
    """Statistics of each round, the gradients of the first, and all weights after the last."""
    stage = dataclasses.replace(system.stages(60)[0], micro_batches=parts)

    def one(data):
        scalars, _ = system.train_step(stage, *data)
        return tf.stack(list(scalars.values()))

    call = devices.compile(one, ROUNDS + 1, lowering.variables(system))
    data = next(iter(devices.feed(lambda host: batches(host, ROUNDS + 1, parts), lambda audio: audio)))
    rows = np.asarray(call(data, tf.constant(0), tf.constant(1)))[:1]
    devices.bring_back()
    # After one update Adam's first moment is (1 - beta1) times the gradient.
    moments = system.generator_adam.first_moments + system.discriminator_adam.first_moments
    found = {f"gradient_{i}": v.numpy() / (1 - system.beta_1) for i, v in enumerate(moments)}
    rows = np.concatenate([rows, np.asarray(call(data, tf.constant(1), tf.constant(ROUNDS - 1)))[: ROUNDS - 1]])
    devices.bring_back()
    weights = system.generator.variables + system.discriminator.variables
    found |= {f"weight_{i}": v.numpy() for i, v in enumerate(weights)}
    graphs = call.experimental_get_tracing_count() if hasattr(call, "experimental_get_tracing_count") else 1
    return {"statistics": rows, "graphs": graphs, **found}


def assert_same(found, alone, parts=1):
    """Asserts that what two processes wrote of a training in so many `parts` is equal, to rounding."""
    end = f"_in_{parts}" * (parts > 1)

    def of(kind):
        names = [name for name in alone if re.fullmatch(rf"{kind}_\d+{end}", name)]
        assert len(names) > 30
        return names

    assert alone["feature"] > 0.1
    assert_close(found["feature"], alone["feature"], rtol=1e-6, atol=0)
    for name in of("gradient"):
        assert_close(found[name], alone[name], rtol=1e-3, atol=1e-3 * np.abs(alone[name]).max())
    assert alone["statistics" + end].shape == (ROUNDS, 8)
    assert_close(found["statistics" + end], alone["statistics" + end], rtol=1e-3, atol=1e-6)
    for name in of("weight"):
        # Adam's first steps are of 1e-4 with the gradient's sign, also where that sign is rounding.
        assert np.abs(found[name] - alone[name]).max() < 3e-4
    assert found["graphs" + end] == alone["graphs" + end] == 1


if __name__ == "__main__":
    main()
