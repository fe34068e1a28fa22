//! The compiler libraries that change what we build: pinned, fetched, found.
//!
//! [`Lock`] says which wheel holds each library and what its bytes are; [`install`] fetches a wheel with the user's own
//! pip and keeps the listed files; [`locate`] says which files a worker is to load, with their digests; [`list`] says
//! what is there. [`export`] and [`import`] carry installed libraries to machines without pip, as a tar.
//!
//! # Files
//!
//! ```text
//! <data folder>/toolchains/
//! ├── .lock-<tool>                      held while that tool is installed
//! ├── digest-cache.json                 digests of libraries that the user brought
//! └── <tool>/
//!     ├── .tmp-<tool>-…                 an install that is running, or that was killed (the next one removes it)
//!     └── <version>-<wheel sha256, 12 digits>/
//!         ├── installed.json            nimctl.installed-tool/1
//!         └── lib….so…
//! ```
//!
//! # Invariants
//!
//! * A folder without a leading dot is whole: it gets its name by one rename, after its files were synced.
//! * No name from inside a wheel or a tar becomes a path: the lock gives all names, and checks its own.
//! * Nothing from a wheel is run here, and pip is never asked to build or install anything.
//!
//! Not here on purpose: reading the environment (the binary fills in [`Places`] and [`Pip`]), printing, and loading a
//! library (only workers do).

mod error;
mod export;
mod hashed_copy;
mod import;
mod install;
mod library_file;
mod locate;
mod lock;
mod pip;
mod place_lock;
mod places;
mod record;
mod status;
mod tar_contents;
mod watch;
mod wheel;
mod work_folder;

pub use crate::backend::{Tool, UnknownTool};
pub use error::ToolchainError;
pub use export::{Export, ExportedTool, export};
pub use import::import;
pub use install::{InstallOutcome, Installed, install};
pub use library_file::LibraryFile;
pub use locate::{Located, Origin, locate};
pub use lock::{Lock, LockedFile, LockedHost, LockedTool, LockedWheel};
pub use pip::Pip;
pub use places::{Places, STANDARD_LIBRARY_FOLDERS, current_host};
pub use status::{ToolState, ToolStatus, list};
pub use watch::{Progress, Stage, Watch};

pub(crate) use hashed_copy::CopyCount;
pub(crate) use lock::is_plain;
pub(crate) use pip::{Requirement, download};
pub(crate) use place_lock::lock_place;
pub(crate) use wheel::Wheel;
pub(crate) use work_folder::{remove_leftovers, work_folder};
