//! Whether a passport is that of the profile whose id it has.

use super::Passport;
use crate::digest::Sha256;
use crate::profile::ProfileId;

/// A passport that says something else than the id of its profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the passport of profile {id} was changed: {problem}")]
pub struct NotOfItsId {
    /// The id in the passport.
    pub id: ProfileId,
    /// What is wrong.
    pub problem: String,
}

impl Passport {
    /// Checks that the contents and build keys in it are those that the profile's id names.
    ///
    /// # Errors
    /// Contents of another profile.
    pub fn check_identity(&self) -> Result<(), NotOfItsId> {
        let not = |problem: String| NotOfItsId { id: self.id, problem };
        let json = self.contents.to_canonical_json().map_err(|error| not(error.to_string()))?;
        let tags = self.contents.tags(&Sha256::of(json.as_bytes()));
        let id = ProfileId::of_tags(&tags).map_err(|error| not(error.to_string()))?;
        if id != self.id {
            return Err(not(format!("its contents are those of profile {id}")));
        }
        if tags != self.tags {
            return Err(not("its tags are not those of its contents".into()));
        }
        for (name, graph) in &self.graphs {
            let record = graph.shipped();
            let key = record.document.key().map_err(|error| not(error.to_string()))?;
            if key != record.key {
                return Err(not(format!("the build key of graph `{name}` is not that of its document")));
            }
            // Workers are in the key, and their effect is in the files.
            let others = record.document.toolchain.iter().filter(|(tool, _)| !tool.starts_with("nimctl-"));
            for (tool, identity) in others {
                if self.contents.toolchain.get(tool) != Some(identity) {
                    return Err(not(format!(
                        "graph `{name}` was built with another {tool} than its contents say"
                    )));
                }
            }
        }
        Ok(())
    }
}
