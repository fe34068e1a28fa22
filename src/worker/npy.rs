//! Tensors as `.npy` files.
