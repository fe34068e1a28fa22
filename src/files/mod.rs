//! Files of ours: whole or absent, past the page cache, remembered by digest, locked.

pub mod atomic_file;
pub(crate) mod digest_cache;
pub mod direct_file;
pub(crate) mod file_lock;
