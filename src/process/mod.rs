//! Child processes, of workers and of pip alike: each leads a process group of its own, and what is not waited for is
//! killed with its whole group.
//!
//! * `ChildGroup`: starts a process, notices its end, gives it a grace period, kills its group.
//! * `LogTail`: the end of what it writes to standard error.
//! * `run`: a whole run without input, with a time limit.
//! * [`Cancel`]: the flag that ends what is running.

mod cancel;
mod child_group;
mod log_tail;
mod run;

pub use cancel::Cancel;
pub(crate) use child_group::ChildGroup;
pub(crate) use log_tail::LogTail;
pub(crate) use run::{Ended, run, run_on};
