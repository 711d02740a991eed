//! Suites are under `tests/`.
