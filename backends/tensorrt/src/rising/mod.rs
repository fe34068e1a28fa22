//! An allocator whose addresses rise in the order of allocation, for builds.
//!
//! TensorRT for RTX walks containers that are ordered by the addresses of what is in them, and numbers values of the graph as
//! it walks. Where addresses depend on the machine's randomization, its environment, or on which thread freed a block first, so
//! do the numbers and then the bytes of the plan. With rising addresses, the order of values is the order in which they
//! were made.
//!
//! Values are also kept in hash tables by their addresses. So a build begins at the same address in every process, and nothing
//! else allocates in between: not this program itself ([`Apart`]), and not the C library where it starts a thread.
//!
//! * [`region`]: hands out addresses, and gives the memory of freed blocks back.
//! * [`malloc`]: the C library's functions, for this whole process.
//!
//! Addresses of all threads come from one counter. A thread's own blocks rise then, however threads take turns; had each thread
//! a region of its own, the order of two threads' blocks would depend on which was started first.

mod malloc;
mod region;

pub use malloc::Apart;

/// Why an allocation could not be given a rising address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRising {
    /// Libraries allocate elsewhere: this executable was linked without exporting its functions.
    NotBound,
    /// There was no address space left.
    NoAddressSpace,
}

/// Lets a build allocate with rising addresses.
///
/// # Errors
/// Its allocations were not all like that, so that another build may give other bytes.
pub fn during<T>(build: impl FnOnce() -> T) -> Result<T, NotRising> {
    if !malloc::is_bound() {
        return Err(NotRising::NotBound);
    }
    malloc::set_whose(malloc::BUILDERS);
    malloc::begin();
    malloc::take_refused();
    let built = build();
    if malloc::take_refused() { Err(NotRising::NoAddressSpace) } else { Ok(built) }
}

/// Says whether what this thread allocates is a part of the build.
pub(crate) fn take_part(builds: bool) {
    malloc::set_builds(builds);
}

/// Does something that is no part of the build, but in the middle of it.
pub(crate) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let builds = malloc::set_builds(false);
    let done = work();
    malloc::set_builds(builds);
    done
}

/// Leaves all further allocations to the C library, until the next build: running a plan needs no order, but speed.
pub fn stop() {
    malloc::set_whose(malloc::NOBODYS);
}
