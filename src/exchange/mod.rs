//! What this machine and the nodes of a fleet both reach: requests go in, results come out. A folder that all of them see
//! ([`SharedFolder`]), or a repository of a registry ([`Scratch`]).

mod folder;
mod scratch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use folder::SharedFolder;
pub use scratch::Scratch;

use crate::digest::Sha256;
use crate::error_kind::ErrorKind;
use crate::files::work_folder::WorkFolder;
use crate::fleet::exchange::{RemoteRequest, RemoteResult};
use crate::oci::InvalidDocument;
use crate::registry::RegistryError;
use crate::stored_format::Unreadable;
use crate::worker::protocol::Event;

/// Where requests and results are. Used by several threads at once.
pub trait Exchange: Sync {
    /// Returns how long to wait from one look to the next.
    fn pace(&self) -> Duration;

    /// Returns a folder for the files of a new request, which are to be below `content` in it.
    ///
    /// # Errors
    /// It can't be written.
    fn stage(&self) -> Result<WorkFolder, ExchangeError>;

    /// Puts a request with its staged files in; the files of one that is there already stay.
    ///
    /// # Errors
    /// It can't be written.
    fn put(&self, id: &str, staged: &WorkFolder, request: &RemoteRequest) -> Result<(), ExchangeError>;

    /// Returns how some requests are, in their order; an error of one of them is its own.
    ///
    /// # Errors
    /// Nothing can be read.
    fn look(&self, ids: &[&str]) -> Result<Vec<Result<Look, ExchangeError>>, ExchangeError>;

    /// Returns how a request is at this moment.
    ///
    /// # Errors
    /// It can't be read, a damaged result.
    fn look_at(&self, id: &str) -> Result<Look, ExchangeError>;

    /// Returns what happened to a request since `offset`, which is moved on; `None` if the result alone tells that.
    fn told(&self, id: &str, offset: &mut u64) -> Option<Vec<Event>>;

    /// Copies the plan of a result to a path: the file that the result names, with its digest and its size in bytes. Whether it is that,
    /// the caller finds out.
    ///
    /// # Errors
    /// It can't be read, or written.
    fn fetch(&self, id: &str, file: &str, plan: (Sha256, u64), to: &Path) -> Result<(), ExchangeError>;

    /// Releases a request that somebody claimed who is gone; a claim of somebody else's stays.
    ///
    /// # Errors
    /// It can't be written.
    fn unclaim(&self, id: &str, of: &Claim) -> Result<(), ExchangeError>;

    /// Removes a request with everything of it.
    ///
    /// # Errors
    /// It can't be written.
    fn remove(&self, id: &str) -> Result<(), ExchangeError>;

    /// Writes which requests a job works on.
    ///
    /// # Errors
    /// It can't be written.
    fn put_batch(&self, name: &str, batch: &Batch) -> Result<(), ExchangeError>;

    /// Returns a batch.
    ///
    /// # Errors
    /// It is not there, or damaged.
    fn batch(&self, name: &str) -> Result<Batch, ExchangeError>;

    /// Returns all batches by name; damaged ones are left out.
    ///
    /// # Errors
    /// It can't be read.
    fn batches(&self) -> Result<Vec<(String, Batch)>, ExchangeError>;

    /// Removes a batch.
    ///
    /// # Errors
    /// It can't be written.
    fn remove_batch(&self, name: &str) -> Result<(), ExchangeError>;

    /// Claims a request; whether nobody else had. Who was started again has it still.
    ///
    /// # Errors
    /// It can't be written.
    fn claim(&self, id: &str, claim: &Claim) -> Result<bool, ExchangeError>;

    /// Takes a request to work on it.
    ///
    /// # Errors
    /// It is not there, damaged, or of a newer nimctl.
    fn take(&self, id: &str) -> Result<Taken, ExchangeError>;

    /// Adds what happened to a request.
    ///
    /// # Errors
    /// It can't be written.
    fn tell(&self, id: &str, event: &Event) -> Result<(), ExchangeError>;

    /// Says what came of a request, unless it was answered and removed meanwhile; `plan` is the file that the result names, in the folder
    /// that the request was taken to.
    ///
    /// # Errors
    /// It can't be written.
    fn finish(&self, id: &str, result: &RemoteResult, plan: Option<&Path>) -> Result<(), ExchangeError>;
}

/// A request that a node works on.
#[derive(Debug)]
pub struct Taken {
    /// What is asked.
    pub request: RemoteRequest,
    /// Where its files are, and where the plan goes.
    pub folder: PathBuf,
    /// Removes the folder when dropped, if it is a copy.
    _copy: Option<WorkFolder>,
}

/// Who works on a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The engine's number of the job, with that of its task.
    pub task: String,
    /// The node.
    pub node: String,
}

/// Requests that one job of the engine works on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The executor.
    pub executor: String,
    /// The store that asked for it, and its machine.
    pub owner: String,
    /// The requests, in the order in which they are begun.
    pub requests: Vec<String>,
    /// The engine's number of the job, once it is known.
    pub job: Option<String>,
}

/// How a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// There is none.
    Absent,
    /// Nobody works on it, as far as the exchange knows.
    Waiting,
    /// Somebody does, or did when it died.
    Claimed(Claim),
    /// It is done.
    Done(Box<RemoteResult>),
}

/// An exchange that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A folder can't be read or written.
    #[error("the shared folder {} cannot be used: {doing}", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A registry fails, or doesn't let us in.
    #[error("the exchange {repository} cannot be used: {doing}")]
    Registry {
        /// The repository.
        repository: String,
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: RegistryError,
    },
    /// It is not there.
    #[error("{what} is not in the exchange {repository}")]
    NotThere {
        /// The repository.
        repository: String,
        /// What was looked for.
        what: String,
    },
    /// What this machine keeps for a while can't be read or written.
    #[error("{doing}")]
    Here {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Something in it is no document.
    #[error(transparent)]
    Invalid(#[from] InvalidDocument),
    /// Something in it can't be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl ExchangeError {
    /// Returns what the error means for the exit code.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Registry { source, .. } => source.kind(),
            Self::Io { .. }
            | Self::NotThere { .. }
            | Self::Here { .. }
            | Self::Invalid(_)
            | Self::Unreadable(_) => ErrorKind::Unavailable,
        }
    }

    /// Returns what to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        if let Self::Registry { source, .. } = self { source.hint() } else { None }
    }

    /// Returns whether a later try may help: a file server or a registry that is being restarted.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Io { .. } | Self::Here { .. } => true,
            Self::Registry { source, .. } => {
                !matches!(source, RegistryError::Login { .. } | RegistryError::Forbidden { .. })
            }
            Self::NotThere { .. } | Self::Invalid(_) | Self::Unreadable(_) => false,
        }
    }

    /// Returns whether a registry is away: then it is waited for, wherever that happens.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Registry { .. }) && self.may_pass() && self.kind() == ErrorKind::Unavailable
    }

    /// Returns whether it is about what is in the exchange: no later try helps.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Unreadable(_) | Self::Invalid(_) => true,
            Self::Registry { source, .. } => {
                matches!(source, RegistryError::WrongDigest { .. } | RegistryError::WrongSize { .. })
            }
            Self::Io { .. } | Self::NotThere { .. } | Self::Here { .. } => false,
        }
    }
}

/// Returns a name that no batch and no question has, of lower-case letters and digits: jobs are named after it.
pub fn new_name() -> String {
    let character = || char::from_digit(fastrand::u32(..36), 36).unwrap_or('0');
    std::iter::repeat_with(character).take(NAME_LENGTH).collect()
}

/// Returns whether a text has the form of such a name.
fn is_name(text: &str) -> bool {
    text.len() == NAME_LENGTH && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
}

const NAME_LENGTH: usize = 12;
