"""Adam on plain variables, so that a phase can freeze some of them and change beta1 while the moments live on."""

import tensorflow as tf


class Adam(tf.Module):
    """Kingma and Ba (2015), algorithm 1 with the bias corrections in the step size (their section 2), as TensorFlow's
    kernel does it.

    Args:
      variables: all that it will ever update; each gets its two moments now.
      beta_2, epsilon: constants of the run.
    """

    def __init__(self, variables, beta_2=0.9, epsilon=1e-7):
        super().__init__()
        self.beta_2, self.epsilon = beta_2, epsilon
        self.variables_updated = list(variables)
        self.iterations = tf.Variable(0, dtype=tf.int64, trainable=False, name="iterations")
        zeros = lambda: [tf.Variable(tf.zeros(v.shape, v.dtype), trainable=False) for v in self.variables_updated]  # noqa: E731
        self.first_moments, self.second_moments = zeros(), zeros()
        self._place = {v.ref(): i for i, v in enumerate(self.variables_updated)}

    def apply(self, gradients, variables, learning_rate, beta_1):
        """One update of `variables`, some or all of those it was made for, by their `gradients`."""
        # By handles, which within a replica are those of its own copies: all replicas make the same update.
        tf.raw_ops.AssignAddVariableOp(resource=self.iterations.handle, value=tf.constant(1, tf.int64))
        count = tf.cast(self.iterations.read_value(), tf.float32)
        powers = [tf.pow(tf.constant(beta, tf.float32), count) for beta in (beta_1, self.beta_2)]
        for variable, gradient in zip(variables, gradients, strict=True):
            place = self._place[variable.ref()]
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self.first_moments[place].handle,
                v=self.second_moments[place].handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=tf.constant(learning_rate, tf.float32),
                beta1=tf.constant(beta_1, tf.float32),
                beta2=tf.constant(self.beta_2, tf.float32),
                epsilon=tf.constant(self.epsilon, tf.float32),
                grad=gradient,
            )
