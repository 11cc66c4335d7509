"""MP3net: the networks, the signal on either side of them, and how one round trains them (figure 4, sections 3.2 and
4.2).
"""

import dataclasses

import tensorflow as tf

from mp3net.errors import UserError, check_number
from mp3net.model import losses, randomness
from mp3net.model.accumulation import mean_of_parts, mean_of_turns
from mp3net.model.architecture import Architecture
from mp3net.model.discriminator import Discriminator
from mp3net.model.execution import Execution
from mp3net.model.generator import Generator
from mp3net.model.layers import Initializer, Layer
from mp3net.model.optimizer import Adam
from mp3net.model.perception import Perception, PerceptionLayer
from mp3net.model.phases import Phase, cut
from mp3net.model.randomness import Purpose
from mp3net.model.representation import Amplitudes
from mp3net.stage import ALONE, Stage


class MP3net(tf.Module):
    """The `System` (training/system.py) of the paper.

    Args:
      architecture: the sizes of both networks.
      perception: the psychoacoustic layer before D.
      batch_size: real examples of one D iteration, over all replicas.
      critic_steps: D updates for each G update.
      penalty_weight, drift_weight: lambda and epsilon_drift of the loss; the paper gives neither, these are the
        released code's.
      penalty_epsilon: added inside the root of the gradient's norm.
      learning_rate, beta_1, beta_2, adam_epsilon: of both Adams.
      average_decay: keeps a moving average of G's weights with this decay per G update, and samples from it; None for
        none.
      phases: the parts of the run in which something differs.
      execution: how the networks are computed, which changes what comes out by rounding only.
    """

    headline = ("d_loss", "g_loss", "wasserstein")

    def __init__(
        self, architecture=None, perception=None, batch_size=8, critic_steps=2, penalty_weight=3.0, drift_weight=0.1,
        penalty_epsilon=1e-12, learning_rate=1e-4, beta_1=0.5, beta_2=0.9, adam_epsilon=1e-7, average_decay=None,
        phases=(), execution=None,
    ):  # fmt: skip
        super().__init__()
        check_number("MP3net.batch_size", batch_size, low=1, whole=True)
        check_number("MP3net.critic_steps", critic_steps, low=1, whole=True)
        for name, value in {"penalty_weight": penalty_weight, "drift_weight": drift_weight}.items():
            check_number(f"MP3net.{name}", value, low=0)
        for name, value in {"penalty_epsilon": penalty_epsilon, "adam_epsilon": adam_epsilon}.items():
            check_number(f"MP3net.{name}", value, above=0)
        for name, value in {"learning_rate": learning_rate, "beta_1": beta_1, "beta_2": beta_2}.items():
            check_number(f"MP3net.{name}", value, low=0, high=1)
        check_number("MP3net.average_decay", average_decay, above=0, high=1, optional=True)
        if not all(isinstance(phase, Phase) for phase in phases):
            raise UserError(f"MP3net.phases is {phases!r}; it is a list of @Phase().")
        self.sizes = architecture or Architecture()
        self.perception = PerceptionLayer(perception or Perception(), self.sizes)
        self.batch_size, self.steps_per_round, self.phases = batch_size, critic_steps, tuple(phases)
        self.penalty_weight, self.drift_weight, self.penalty_epsilon = penalty_weight, drift_weight, penalty_epsilon
        self.learning_rate, self.beta_1 = learning_rate, beta_1
        self._adam = {"beta_2": beta_2, "epsilon": adam_epsilon}
        self.average_decay = average_decay
        self.execution = execution or Execution()
        self.rate_hz, self.channels, self.bands = self.sizes.rate_hz, self.sizes.channels, self.sizes.bands
        self.representation = Amplitudes(self.sizes.bands, self.sizes.amplitude_scale)
        self.generator = self.discriminator = self.average = None

    def stages(self, steps):
        """The run of `steps` D iterations, cut where a phase begins."""
        parts = cut(self.phases, steps, self.steps_per_round, self.sizes.model_blocks)
        return [Stage(phase.name, length, self.batch_size, self.sizes.crop_samples, phase) for phase, length in parts]

    def build_generator(self):
        """Makes the weights that sampling needs, and no others."""
        initializer = Initializer(0)
        self.generator = Generator(self.sizes, initializer)
        if self.average_decay is not None:
            self.average = self.generator
        return self

    def build(self, place=ALONE, seed=0):
        """Makes both networks and their optimizers; `seed` fixes the initial weights and every draw of the run."""
        initializer, execution = Initializer(seed), self.execution.on(place.platform, self.sizes)
        self.seed, self.place = seed, place
        self.algorithm = randomness.XLA_ALGORITHM if place.xla else randomness.ALGORITHM
        self.perception = PerceptionLayer(self.perception.perception, self.sizes, place.xla)
        self.representation = Amplitudes(self.sizes.bands, self.sizes.amplitude_scale, place.xla)
        self.generator = Generator(self.sizes, initializer, execution)
        self.discriminator = Discriminator(self.sizes, initializer, place.cross_replica_mean, execution)
        self.generator_adam = Adam(self.generator.trainable_variables, **self._adam)
        self.discriminator_adam = Adam(self.discriminator.trainable_variables, **self._adam)
        self.titles = {
            variable.ref(): f"{network} {layer.title} {kind}"
            for network, module in (("G", self.generator), ("D", self.discriminator))
            for layer in module.submodules
            if isinstance(layer, Layer)
            for kind, variable in (("kernel", layer.kernel), ("bias", layer.bias))
        }
        if self.average_decay is not None:
            self.average = Generator(self.sizes, Initializer(seed))
        return self

    def train_step(self, stage, batches, examples):
        """`critic_steps` D updates, each with a real batch of its own, then one G update.

        Args:
          stage: one of `stages`.
          batches: real amplitudes `[critic_steps, batch, block, band, channel]`, a replica's share.
          examples: int64 `[critic_steps, batch]`, the place of each in the endless sequence of training examples.

        Returns: float32 scalars by name, of this replica's share (those of D averaged over its updates), and by name
        whether each tensor was finite.
        """
        phase, parts = stage.settings, stage.micro_batches

        def discriminator_update(real, places):
            return [], *self.update_discriminator(phase, real, places, parts)

        loops = self.place.xla and self.place.loops
        _, means, finite = mean_of_turns(discriminator_update, [batches, examples], loops)
        scalars, checks = self.update_generator(phase, _after(finite, examples[-1]), parts)
        named = {f"{name} (D updates)": value for name, value in finite.items()}
        return {**means, **scalars}, named | {f"{name} (G update)": value for name, value in checks.items()}

    def note_on_parts(self, examples):
        """What is no longer the same where a batch is taken in parts of `examples`: the minibatch statistic."""
        note = f"the minibatch standard deviation is over {examples} example{'s' * (examples > 1)}"
        return note + (", and so without effect" if examples == 1 else "")

    def update_discriminator(self, phase, real, examples, parts=1):
        """One D iteration on real amplitudes `[batch, block, band, channel]`, taken in `parts` one after another."""
        variables = self._trained(self.discriminator, phase)

        def part(real, examples):
            return self._discriminator_gradients(variables, real, examples)

        gradients, scalars, checks = mean_of_parts(part, [real, examples], parts, self.place.loops)
        return scalars, checks | self._apply(self.discriminator_adam, gradients, variables, phase)

    def _discriminator_gradients(self, variables, real, examples):
        """Fresh latents, fresh noise on real and generated, and the gradient of the loss of section 3.2."""
        fake = self.generator(self._latents(Purpose.D_LATENT, examples))
        noise_seeds = [self._seeds(purpose, examples) for purpose in (Purpose.REAL_NOISE, Purpose.D_FAKE_NOISE)]
        both = tf.stop_gradient(self.perception(tf.concat([real, fake], axis=0), tf.concat(noise_seeds, axis=0)))
        seen_real, seen_fake = tf.split(both, 2)
        mix = randomness.uniforms(self._seeds(Purpose.MIX, examples), self.algorithm)
        with tf.GradientTape() as tape:
            real_scores, fake_scores = tf.split(self.discriminator(both, groups=2), 2)
            norms = losses.gradient_norms(self.discriminator, seen_real, seen_fake, mix, self.penalty_epsilon)
            wasserstein = losses.wasserstein_estimate(real_scores, fake_scores)
            penalty, drift = losses.gradient_penalty(norms), losses.drift(real_scores)
            loss = -wasserstein + self.penalty_weight * penalty + self.drift_weight * drift
        gradients = tape.gradient(loss, variables)
        checks = _finite({"real amplitudes": real, "generated amplitudes": fake, "amplitudes that D sees": both})
        checks |= _finite({"scores of real": real_scores, "scores of generated": fake_scores, "gradient norms": norms})
        scalars = {
            "d_loss": loss,
            "wasserstein": wasserstein,
            "gradient_penalty": penalty,
            "gradient_norm": tf.reduce_mean(norms),
            "drift": drift,
            "score_real": tf.reduce_mean(real_scores),
            "score_fake": tf.reduce_mean(fake_scores),
        }
        return gradients, scalars, checks

    def update_generator(self, phase, examples, parts=1):
        """One G update against D as it now is; `examples` are taken in `parts` one after another."""
        variables = self._trained(self.generator, phase)

        def part(examples):
            return self._generator_gradients(variables, examples)

        gradients, scalars, checks = mean_of_parts(part, [examples], parts, self.place.loops)
        checks |= self._apply(self.generator_adam, gradients, variables, phase)
        if self.average is not None:
            self._update_average()
        return scalars, checks

    def _generator_gradients(self, variables, examples):
        """The gradient of G's loss, which flows through the noise's threshold too."""
        latents, noise_seeds = self._latents(Purpose.G_LATENT, examples), self._seeds(Purpose.G_FAKE_NOISE, examples)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            fake = self.generator(latents)
            scores = self.discriminator(self.perception(fake, noise_seeds))
            loss = losses.generator_loss(scores)
        checks = _finite({"generated amplitudes": fake, "scores of generated": scores})
        return tape.gradient(loss, variables), {"g_loss": loss}, checks

    def _seeds(self, purpose, examples):
        return randomness.seeds(self.seed, purpose, examples)

    def _latents(self, purpose, examples):
        return randomness.latents(self._seeds(purpose, examples), self.sizes.latent_size, self.algorithm)

    def _trained(self, network, phase):
        if phase.trainable_blocks is None:
            return network.trainable_variables
        return network.shallow_variables(phase.trainable_blocks)

    def _apply(self, adam, gradients, variables, phase):
        gradients = self.place.cross_replica_mean(list(gradients))
        beta_1 = self.beta_1 if phase.beta_1 is None else phase.beta_1
        adam.apply(
            gradients, variables, self.learning_rate if phase.learning_rate is None else phase.learning_rate, beta_1
        )
        # A sum is finite only if its terms are: one number per gradient, in place of a mask as large as the network.
        return {
            f"gradient of {self.titles[variable.ref()]}": tf.math.is_finite(tf.reduce_sum(gradient))
            for variable, gradient in zip(variables, gradients, strict=True)
        }

    def _update_average(self):
        """Moves the average towards the weights, faster at first, so that it is never mostly their initial values."""
        count = tf.cast(self.generator_adam.iterations, tf.float32)
        decay = tf.minimum(self.average_decay, (1.0 + count) / (10.0 + count))
        for mean, variable in zip(self.average.trainable_variables, self.generator.trainable_variables, strict=True):
            step = (1.0 - decay) * (mean - variable)
            tf.raw_ops.AssignSubVariableOp(resource=mean.handle, value=step)  # this replica's copy: all make the same

    def sample(self, seeds, truncation=None):
        """Songs `[n, sample, channel]` of int64 `seeds` `[n]`, n known.

        `truncation` bounds |z|, for safer songs that are more alike.
        """
        return self.songs(self.latents(seeds, truncation))

    def interpolate(self, first, second, fraction, truncation=None):
        """Songs at `fraction` of the great arc from the latents of seeds `first` to those of `second`, int64 `[n]`."""
        return self.songs(randomness.slerp(self.latents(first, truncation), self.latents(second, truncation), fraction))

    def latents(self, seeds, truncation=None):
        """z ~ N(0, 1) of int64 `seeds` `[n]`, or that given |z| < `truncation`: `[n, latent_size]`."""
        pairs, size = randomness.seeds(0, Purpose.SAMPLE_LATENT, seeds), self.sizes.latent_size
        return (
            randomness.latents(pairs, size)
            if truncation is None
            else randomness.truncated_latents(pairs, size, truncation)
        )

    def songs(self, latents):
        """`[n, latent_size]` to `[n, sample, channel]`, by the averaged weights where there are any."""
        generator = self.generator if self.average is None else self.average
        return self.representation.decode(generator(latents))

    def twin(self):
        """Another of the same sizes, on no device in particular, with what sampling and scoring take."""
        made = MP3net.from_architecture(self.architecture()).build_generator()
        made.discriminator = Discriminator(self.sizes, Initializer(0))
        return made

    def preview_items(self):
        """The weights of a `twin`, which it takes over from a run."""
        return {**self.generation_items(), "discriminator": self.discriminator}

    def critic_scores(self, real, seeds):
        """D's scores `[n]` by name, of each of `real`, amplitudes `[n, block, band, channel]` by name, and of
        "generated", the songs of int64 `seeds` `[n]`.

        With noise, as D sees them, and each a batch of its own to the minibatch statistic.
        """
        generator = self.generator if self.average is None else self.average
        noise = {name: randomness.seeds(0, Purpose.REAL_NOISE, seeds) for name in real}
        noise["generated"] = randomness.seeds(0, Purpose.D_FAKE_NOISE, seeds)
        heard = {**real, "generated": generator(self.latents(seeds))}
        return {name: self.discriminator(self.perception(each, noise[name])) for name, each in heard.items()}

    def checkpoint_items(self):
        """Both networks, both optimizers, and the average if there is one."""
        items = {
            "generator": self.generator, "discriminator": self.discriminator,
            "generator_adam": self.generator_adam, "discriminator_adam": self.discriminator_adam,
        }  # fmt: skip
        return items if self.average is None else {**items, "average": self.average}

    def generation_items(self):
        """The weights that `sample` uses."""
        return {"generator": self.generator} if self.average is None else {"average": self.average}

    def weight_items(self):
        """The part that a fine-tune starts from: both networks, no optimizer."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def weights_replaced(self):
        """Starts the average anew, after `weight_items` were restored from another run."""
        if self.average is not None:
            for mean, variable in zip(self.average.variables, self.generator.variables, strict=True):
                mean.assign(variable)

    def architecture(self):
        """Plain JSON, enough for `MP3net.from_architecture`."""
        return {
            "system": "mp3net", "architecture": self.sizes.to_json(),
            "perception": dataclasses.asdict(self.perception.perception), "average_decay": self.average_decay,
        }  # fmt: skip

    @classmethod
    def from_architecture(cls, description):
        """The system that `architecture()` described, without its training."""
        return cls(
            Architecture(**description["architecture"]),
            Perception(**description["perception"]),
            average_decay=description["average_decay"],
        )


def _finite(tensors):
    return {name: tf.reduce_all(tf.math.is_finite(tensor)) for name, tensor in tensors.items()}


def _after(finite, examples):
    """`examples`, but not to be had before what `finite` tells of: else a compiler may begin the G update before the
    D updates have ended, and hold the activations of both.
    """
    done = tf.reduce_all(list(finite.values()))
    return examples + tf.where(done, tf.zeros([], examples.dtype), tf.ones([], examples.dtype))
