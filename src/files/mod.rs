//! Files of ours: whole or absent, past the page cache, remembered by digest, locked; text as people save it; models, with a digest for each file; folders of unfinished work.

pub mod destination;
pub(crate) mod digest_cache;
pub(crate) mod file_lock;
pub(crate) mod kept;
pub mod model_files;
pub(crate) mod read_file;
pub mod secret;
pub mod text;
pub mod work_folder;

pub use nimctl_backend_kit::{atomic_file, direct_file};
