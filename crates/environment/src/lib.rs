//! One lease: workspace layers, sandbox, limits.
