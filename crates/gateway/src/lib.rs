//! What crosses the boundary: the egress proxy.
