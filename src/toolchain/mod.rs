//! The compiler libraries that change what we build: pinned, fetched, found.
