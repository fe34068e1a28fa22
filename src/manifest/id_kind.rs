//! The kinds of profile ids.

use super::{Form, ManifestProfile};
use crate::profile::ProfileId;

/// The kind of a profile's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// NIM's rule over tags that name the contents: it stands for the bytes.
    Content,
    /// NIM's rule over the tags; it says nothing about files.
    NimTags,
    /// Made by a rule that is not public, or not a digest at all.
    Opaque,
    /// A digest that doesn't match the tags.
    Wrong {
        /// The id that the rule gives, if the tags have one.
        computed: Option<ProfileId>,
    },
}

impl IdKind {
    /// Classifies an id. Ids in the 2024 form follow an unpublished rule, so they are opaque.
    pub(super) fn of(profile: &ManifestProfile, form: Form) -> Self {
        let computed = profile.computed_id().ok();
        match ProfileId::from_hex(&profile.id) {
            Ok(id) if Some(id) == computed && profile.tags.contains_key("content") => Self::Content,
            Ok(id) if Some(id) == computed => Self::NimTags,
            Ok(_) if form == Form::Schema2 => Self::Wrong { computed },
            _ => Self::Opaque,
        }
    }

    /// Returns its name: `nim-tags`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::NimTags => "nim-tags",
            Self::Opaque => "opaque",
            Self::Wrong { .. } => "wrong",
        }
    }
}
