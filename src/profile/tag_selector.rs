//! `key=value,key=value`: tags that a profile must have, as in `NIM_TAGS_SELECTOR`, `--tags` and `--only`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::Tags;

/// Tags that a profile must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagSelector(BTreeMap<String, String>);

/// A string that is not a tag selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTagSelector {
    /// A part without `=`.
    #[error("`{0}` is not key=value; separate tags by commas, as in gpu=l4,precision=fp16")]
    Part(String),
    /// A duplicate key.
    #[error("`{0}` is given twice")]
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
    /// Returns whether it requests a value of a tag.
    pub fn names(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Returns the first requested tag that these don't match; `None` if all match. The case of values doesn't
    /// count.
    pub fn mismatch(&self, tags: &Tags) -> Option<(&str, &str)> {
        let differs =
            |key: &str, value: &str| !tags.get(key).is_some_and(|tag| tag.eq_ignore_ascii_case(value));
        let mut asked = self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        asked.find(|(key, value)| differs(key, value))
    }
}

impl fmt::Display for TagSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_a_tag() {
        let selector: TagSelector = "precision=FP16, tp=2".parse().unwrap();
        assert_eq!(selector.to_string(), "precision=FP16,tp=2");
        let tags = |value: &str| Tags::from([("precision".into(), value.into()), ("tp".into(), "2".into())]);
        assert_eq!(selector.mismatch(&tags("fp16")), None);
        assert_eq!(selector.mismatch(&tags("fp8")), Some(("precision", "FP16")));
        for text in ["fp16", "=x", "a=b,a=c", "gpu=l4,fp16"] {
            assert!(text.parse::<TagSelector>().is_err(), "{text}");
        }
        assert_eq!("".parse(), Ok(TagSelector::default()));
    }
}
