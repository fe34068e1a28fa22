//! Threads take turns during a build.
//!
//! The library hands work to threads of its own, and goes on meanwhile. Which of two threads is the first to allocate would be
//! chance, and so would be the order of their blocks ([`rising`](crate::rising)). So only one of the threads runs at a time, until
//! it waits for another one; then the next has its turn. Nothing depends on a clock or on the number of processors, which the
//! library is told to be two.
//!
//! Threads that take part are the one that builds, and those that it and they start meanwhile.
//!
//! * [`schedule`]: whose turn it is.
//! * [`pthread`]: the C library's functions that start threads and wait, for this whole process.

mod pthread;
mod schedule;

/// Lets this thread, and those that are started meanwhile, take turns.
pub fn during<T>(build: impl FnOnce() -> T) -> T {
    struct End(usize);
    impl Drop for End {
        fn drop(&mut self) {
            schedule::leave(self.0);
        }
    }
    let Some(place) = schedule::reserve() else { return build() };
    schedule::enter(place);
    let _end = End(place);
    build()
}

#[cfg(test)]
mod tests;
