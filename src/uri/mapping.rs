//! What replaces the beginning of a uri.

use std::str::FromStr;

use super::shown;

/// Characters after which, or before which, a uri's beginning may end.
const BORDERS: [char; 4] = ['/', ':', '?', '@'];

/// `FROM=TO`: what begins with one uri is fetched below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriMapping {
    from: String,
    to: String,
}

/// A text that is no mapping.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` maps no uri: expected FROM=TO, such as ngc://=https://models.example.com/ngc")]
pub struct InvalidMapping(String);

impl FromStr for UriMapping {
    type Err = InvalidMapping;

    fn from_str(text: &str) -> Result<Self, InvalidMapping> {
        let invalid = || InvalidMapping(shown(text));
        let (from, to) = text.split_once('=').ok_or_else(invalid)?;
        let is_uri = |uri: &str| {
            uri.split_once(':').is_some_and(|(scheme, _)| {
                !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+')
            })
        };
        if !(is_uri(from) && from.contains("://") && is_uri(to)) {
            return Err(invalid());
        }
        Ok(Self { from: from.into(), to: to.into() })
    }
}

impl UriMapping {
    pub(super) fn length(&self) -> usize {
        self.from.len()
    }

    /// Whether a uri begins with it, as a whole part.
    pub(super) fn fits(&self, uri: &str) -> bool {
        uri.strip_prefix(&self.from)
            .is_some_and(|rest| rest.is_empty() || self.from.ends_with(BORDERS) || rest.starts_with(BORDERS))
    }

    /// Returns the uri in its place. Where files have paths and no `?file=`, `:VERSION?file=PATH` becomes `:VERSION/PATH`.
    pub(super) fn apply(&self, uri: &str) -> String {
        let rest = uri.strip_prefix(&self.from).unwrap_or(uri);
        let keeps_query = ["oci://", "hf://", "ngc://"].iter().any(|scheme| self.to.starts_with(scheme));
        let rest = if keeps_query { rest.to_owned() } else { rest.replacen("?file=", "/", 1) };
        if rest.starts_with([':', '?', '@']) {
            return format!("{}{rest}", self.to);
        }
        let is_folder = self.to.ends_with(['/', ':']);
        let slash = if is_folder || rest.is_empty() { "" } else { "/" };
        format!("{}{slash}{}", self.to, rest.trim_start_matches('/'))
    }
}
