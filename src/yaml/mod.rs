//! YAML documents as trees that can be read, changed and written back without loss of meaning.
//!
//! For files whose keys we don't all know: manifests that others wrote. Files of ours are read into types by
//! `serde-saphyr`, whose parser this is built on.
//!
//! A tree keeps what a reader can see: tags such as `!name`, the order of keys, and whether a scalar was plain (and so
//! may be a number) or quoted. It doesn't keep comments, anchors and layout: aliases and merge keys are replaced by what
//! they stand for. Hostile text is refused with its position: see [`Limits`].

mod find;
mod parse;
pub(crate) mod words;
mod write;

use std::fmt;

pub use parse::{Limits, parse};
pub use write::write;

/// A position in a file, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Text that is not YAML, or YAML that we refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{position}: {message}")]
pub struct YamlError {
    /// Where.
    pub position: Position,
    /// What is wrong.
    pub message: String,
}

/// One node of a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins; all zero for one that we made.
    pub position: Position,
    /// Its tag, as it is written: `!name`.
    pub tag: Option<Box<str>>,
    /// What it holds.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text.
    Scalar {
        /// The text, escapes resolved.
        text: Box<str>,
        /// Whether it is written without quotes, so that it may be a number, a boolean or null.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// Pairs in their order; keys are unique scalars.
    Mapping(Vec<(Node, Node)>),
}

/// Equal in meaning: positions don't count.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        if self.tag != other.tag {
            return false;
        }
        match (&self.value, &other.value) {
            (Value::Scalar { text: a, plain: plain_a }, Value::Scalar { text: b, plain: plain_b }) => {
                let same = plain_a == plain_b || self.tag.is_some() || !write::is_ambiguous(a);
                a == b && same || self.is_null() && other.is_null()
            }
            (Value::Sequence(a), Value::Sequence(b)) => a == b,
            (Value::Mapping(a), Value::Mapping(b)) => a == b,
            _ => false,
        }
    }
}

impl Node {
    /// Returns a string that no reader takes for a number.
    pub fn text(text: impl Into<Box<str>>) -> Self {
        Self::new(Value::Scalar { text: text.into(), plain: false })
    }

    /// Makes a list.
    pub fn sequence(items: Vec<Self>) -> Self {
        Self::new(Value::Sequence(items))
    }

    /// Makes a mapping; each key must be there once.
    pub fn mapping<K: Into<Box<str>>>(pairs: impl IntoIterator<Item = (K, Self)>) -> Self {
        Self::new(Value::Mapping(pairs.into_iter().map(|(key, value)| (Self::text(key), value)).collect()))
    }

    fn new(value: Value) -> Self {
        Self { position: Position::default(), tag: None, value }
    }

    /// Returns the text of a scalar; `None` for null, lists and mappings.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// Returns whether it is null; a scalar with a tag is what its tag says.
    pub fn is_null(&self) -> bool {
        self.tag.is_none() && matches!(&self.value, Value::Scalar { text, plain: true } if is_null(text))
    }

    /// Returns the pairs of a mapping.
    pub fn as_mapping(&self) -> Option<&[(Self, Self)]> {
        match &self.value {
            Value::Mapping(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// Returns the items of a list.
    pub fn as_sequence(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_mapping()?.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
    }

    /// Returns the value of a key of a mapping, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Mapping(pairs) => {
                pairs.iter_mut().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// Says what kind of node it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "a string",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}
