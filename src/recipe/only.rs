//! `--only`: which profiles of a recipe.

use std::fmt;
use std::str::FromStr;

use super::Recipe;
use crate::glob;
use crate::profile::{InvalidTagSelector, ProfileSpec, TagSelector, Tags};

/// A choice of profiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// Those with these tags: `gpu=l4,precision=fp16`.
    Tags(TagSelector),
    /// Those of this name, in which `*` stands for anything: `tensorrt-rtx-*`.
    Name(String),
}

impl FromStr for Only {
    type Err = InvalidTagSelector;

    fn from_str(text: &str) -> Result<Self, InvalidTagSelector> {
        if text.contains('=') { text.parse().map(Self::Tags) } else { Ok(Self::Name(text.into())) }
    }
}

impl Only {
    /// Returns the profiles that are chosen, in the recipe's order.
    pub fn of<'a>(&self, recipe: &'a Recipe) -> Vec<&'a ProfileSpec> {
        let batch_size = recipe.batch_size();
        let is_chosen = |spec: &&ProfileSpec| self.chooses(&spec.name(), &spec.tags(batch_size));
        recipe.profiles.iter().filter(is_chosen).collect()
    }

    /// Returns whether a profile with this name and these tags is chosen.
    pub fn chooses(&self, name: &str, tags: &Tags) -> bool {
        match self {
            Self::Tags(selector) => selector.mismatch(tags).is_none(),
            Self::Name(pattern) => glob::matches(pattern, name),
        }
    }
}

impl fmt::Display for Only {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tags(selector) => selector.fmt(f),
            Self::Name(pattern) => f.write_str(pattern),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Only;

    #[test]
    fn a_choice_with_an_equals_sign_is_by_tags() {
        assert_eq!("onnx-*".parse(), Ok(Only::Name("onnx-*".into())));
        assert!(matches!("gpu=l4, precision=fp16".parse(), Ok(Only::Tags(_))));
        let error = "gpu=l4,fp16".parse::<Only>().unwrap_err().to_string();
        assert_eq!(error, "`fp16` is not key=value; separate tags by commas, as in gpu=l4,precision=fp16");
    }
}
