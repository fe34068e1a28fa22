//! Backends are processes: protocol, host side, worker side.
