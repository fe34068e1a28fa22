//! Profiles: what they are asked to be ([`ProfileSpec`]), what they are made of ([`Contents`]) and their ids.

mod contents;
mod id;
mod precision;
mod spec;
mod tag_selector;
mod target;

pub use crate::backend::{Backend, InvalidBackend};
pub use contents::{CONTENTS_FILE, CONTENTS_SCHEMA, Contents, ContentsFile, ModelRelease, ToolIdentity};
pub use id::{InvalidTag, ProfileId, Tags, hashed_text};
pub use precision::{ProfilePrecision, UnknownProfilePrecision};
pub use spec::{ProfileSpec, gpu_tags, largest_batch};
pub use tag_selector::{InvalidTagSelector, TagSelector};
pub use target::{Target, capability_tag};

#[cfg(test)]
mod fields_of_an_id;
