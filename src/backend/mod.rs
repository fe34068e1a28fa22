//! Backends: their names, and everything that is known of one by its name.
//!
//! A backend's name is open: anyone may write `nimctl-backend-<name>`. What we know of the ones that we ship, and of the
//! libraries that they load, stands in one table ([`known`](Facts)), with a default for strangers. Whatever else there is to
//! know, a backend's worker says itself (`describe`).

mod known;
mod quantized;
mod tool;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use known::{Builds, CudaMajor, Facts, facts_of, facts_of_tag, is_known_tag, tags_in_names};
pub use quantized::{QuantizedRefusal, computes_quantized_convolutions, takes_quantized};
pub use tool::{Licence, Tool, UnknownTool};
pub use words::Words;

pub(crate) use tool::Library;

/// The name of a backend: one of ours, or a third party's (any executable `nimctl-backend-<name>`).
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Backend(String);

/// The longest name: an executable and tags are called after it.
const MAX_NAME_CHARS: usize = 64;

/// A string that can't name a backend.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` cannot name a backend: use lower-case letters, digits and `-`, at most {MAX_NAME_CHARS} characters"
)]
pub struct InvalidBackend(String);

impl Backend {
    /// Makes one from its name.
    ///
    /// # Errors
    /// A name that isn't lower-case letters, digits and `-`, or is longer than 64 characters.
    pub fn new(name: &str) -> Result<Self, InvalidBackend> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) || name.len() > MAX_NAME_CHARS
        {
            return Err(InvalidBackend(name.into()));
        }
        Ok(Self(name.into()))
    }

    /// Returns the backend that runs ONNX graphs: generic profiles, and the reference for all numbers.
    pub fn reference() -> Self {
        Self(known::REFERENCE.into())
    }

    /// Returns the backend that builds plans ahead of time, for the compute capabilities that its facts list.
    pub fn ahead_of_time() -> Self {
        Self(known::AHEAD_OF_TIME.into())
    }

    /// Returns the backend that tunes plans on the GPU itself, whichever it is: the one to name where no plan can be built
    /// ahead of time.
    pub fn on_the_device() -> Self {
        Self(known::ON_THE_DEVICE.into())
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Returns what is known of it.
    pub fn facts(&self) -> &'static Facts {
        facts_of(&self.0)
    }

    /// Returns whether its profiles are the ONNX graphs themselves, so that there is nothing to compile.
    pub fn ships_onnx(&self) -> bool {
        self.facts().builds == Builds::Nothing
    }

    /// Returns the value of the tag `backend`, which readable names of profiles begin with.
    pub fn tag(&self) -> &str {
        self.facts().tag.unwrap_or(&self.0)
    }

    /// Returns the value of the tag `model_type`.
    pub fn model_type(&self) -> &str {
        self.facts().model_type.unwrap_or(&self.0)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
