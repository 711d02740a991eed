//! The controllers of a cluster: one module a controller, over one runtime.
