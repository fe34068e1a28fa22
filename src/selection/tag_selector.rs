//! `NIM_TAGS_SELECTOR`: `key=value,key=value`.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::Rejection;
use crate::profile::Tags;

/// Tags that a profile must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSelector(BTreeMap<String, String>);

/// A text that is no tag selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTagSelector {
    /// A part without `=`.
    #[error("`{0}` is no selector of a tag: write key=value, joined by commas")]
    Part(String),
    /// A key that is there twice.
    #[error("`{0}` is asked for twice")]
    Twice(String),
}

impl FromStr for TagSelector {
    type Err = InvalidTagSelector;

    fn from_str(text: &str) -> Result<Self, InvalidTagSelector> {
        let mut tags = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| InvalidTagSelector::Part(part.into()))?;
            if key.trim().is_empty() {
                return Err(InvalidTagSelector::Part(part.into()));
            }
            if tags.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
                return Err(InvalidTagSelector::Twice(key.trim().into()));
            }
        }
        Ok(Self(tags))
    }
}

impl TagSelector {
    /// Returns why these tags are not the ones asked for. The case of values doesn't count.
    pub(super) fn rejects(&self, tags: &Tags) -> Option<Rejection> {
        let (key, value) = self
            .0
            .iter()
            .find(|(key, value)| !tags.get(*key).is_some_and(|tag| tag.eq_ignore_ascii_case(value)))?;
        Some(Rejection::TagSelector {
            wanted: format!("{key}={value}"),
            is: tags.get(key).map(|value| format!("{key}={value}")),
        })
    }
}
