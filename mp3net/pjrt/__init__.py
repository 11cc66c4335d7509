"""PJRT, the runtime under JAX: runs what TensorFlow has lowered, on any device that JAX drives. Needs no TensorFlow."""
