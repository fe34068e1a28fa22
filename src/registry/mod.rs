//! A client of OCI registries, as the OCI distribution specification 1.1 describes them: blobs, manifests, tags, referrers; and of
//! web servers, whose files come down by the same means.
//!
//! ```text
//!  blobs, upload, manifests, referrers, web what a caller asks for
//!      │ download      a blob or file as it comes down, resumed after a break
//!      │ request       one request with its answer: mirrors' redirects, login, errors in the registry's words
//!      │ retry         what is tried again, when, and how often
//!      │ auth, credentials                  who we are, to which host
//!      ▼ exchange      one HTTP exchange in a thread of its own, which can be left behind
//! ```
//!
//! A thin layer on blocking `reqwest` instead of the crate `oci-client`, which would bring an async runtime into every
//! command, has no resumption inside a blob or an upload, and no credential helpers.
//!
//! What arrives is never trusted: a manifest is compared with the digest asked for, a blob with digest and size, a range
//! with what was asked. Credentials go to the registry that they are for and to its token server, never to where one of them
//! redirects, and are in no message.
//!
//! It owns no place on disk. The environment (`DOCKER_CONFIG` and others) is read by the caller:
//! [`CredentialSource::from_environment`].

mod auth;
mod blobs;
mod client;
mod credentials;
mod download;
mod error;
mod exchange;
mod http_date;
mod manifests;
mod options;
mod reference;
mod referrers;
mod request;
mod retry;
mod upload;
mod web;

pub use blobs::Blob;
pub use client::{Client, Notice, Watch};
pub use credentials::CredentialSource;
pub use download::Fetched;
pub use error::{RegistryError, Words};
pub use exchange::ReadSeek;
pub use manifests::{MAX_MANIFEST_BYTES, Manifest};
pub use options::{Limits, Mirror, Options, PlainHttp};
pub(crate) use reference::looks_like_a_host;
pub use reference::{InvalidReference, Reference, Repository};
pub use referrers::Descriptor;
pub use upload::Uploaded;
pub use web::{InvalidAddress, Secret, WebFile, shown_address, web_address};
