//! What an error means to the person who runs the program; the binary turns it into an exit code, in one place.

/// The kinds of failure, one for each exit code that an error can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input is wrong: a recipe, a model, a path, a store that can't be written (exit 1).
    Input,
    /// A check ran and failed: a digest differs, a gate failed (exit 3).
    Refused,
    /// No profile fits the devices, or the one asked for doesn't (exit 4).
    NoProfile,
    /// A backend, driver, device or tool is missing or broke (exit 5).
    Unavailable,
    /// Interrupted by the user or by a signal (exit 130, as a shell reports it).
    Interrupted,
    /// A bug of ours (exit 70).
    Bug,
}
