//! `--only`: which profiles of a recipe.

use std::fmt;

use super::BuildError;
use crate::profile::ProfileSpec;
use crate::recipe::Recipe;

/// A choice of profiles: `gpu=l4,precision=fp16` by tags, or a name in which `*` stands for anything.
#[derive(Clone, Debug)]
pub enum Selector {
    /// All of these tags.
    Tags(Vec<(String, String)>),
    /// A name with `*` in it, or without.
    Name(String),
}

impl Selector {
    /// Reads a selector: it is by tags if it has a `=`.
    pub fn parse(text: &str) -> Self {
        if !text.contains('=') {
            return Self::Name(text.into());
        }
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (key.trim().to_owned(), value.trim().to_owned())
        };
        Self::Tags(text.split(',').map(pair).collect())
    }

    fn matches(&self, spec: &ProfileSpec, batch_size: Option<i64>) -> bool {
        match self {
            Self::Tags(wanted) => {
                let tags = spec.tags(batch_size);
                wanted.iter().all(|(key, value)| tags.get(key) == Some(value))
            }
            Self::Name(pattern) => matches_pattern(pattern, &spec.name()),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(tags) => {
                let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                f.write_str(&pairs.join(","))
            }
            Self::Name(pattern) => f.write_str(pattern),
        }
    }
}

/// Returns the selected profiles in the recipe's order.
pub(in crate::ops) fn selected<'a>(
    recipe: &'a Recipe,
    only: Option<&Selector>,
) -> Result<Vec<&'a ProfileSpec>, BuildError> {
    let batch_size = recipe.batch_size();
    let chosen: Vec<&ProfileSpec> = recipe
        .profiles
        .iter()
        .filter(|spec| only.is_none_or(|selector| selector.matches(spec, batch_size)))
        .collect();
    match only {
        Some(selector) if chosen.is_empty() => Err(BuildError::NothingSelected {
            selector: selector.to_string(),
            profiles: recipe.profiles.iter().map(ProfileSpec::name).collect(),
        }),
        _ => Ok(chosen),
    }
}

fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("tensorrt-rtx-l4-fp16", "tensorrt-rtx-l4-fp16", true),
            ("tensorrt-rtx-l4", "tensorrt-rtx-l4-fp16", false),
            ("tensorrt-rtx-l4*", "tensorrt-rtx-l40s-fp16", true),
            ("*-fp16", "tensorrt-rtx-l4-fp16", true),
            ("*l4*fp16", "tensorrt-rtx-l4-fp16", true),
            ("*l4*bf16", "tensorrt-rtx-l4-fp16", false),
            ("*", "onnx-fp16", true),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }
}
