//! The executors of a fleet file, in the file's order.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::Executor;

/// Executors by name, in the order in which the file lists them: of two that offer the same, the first gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executors(Vec<(String, Executor)>);

impl Executors {
    /// Returns the executors with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Executor)> {
        self.0.iter().map(|(name, executor)| (name.as_str(), executor))
    }

    /// Returns the executor of a name.
    pub fn get(&self, name: &str) -> Option<&Executor> {
        self.iter().find(|(other, _)| *other == name).map(|(_, executor)| executor)
    }
}

impl<'de> Deserialize<'de> for Executors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Executors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("executors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Executors, A::Error> {
                let mut executors = Vec::new();
                while let Some(one) = map.next_entry()? {
                    executors.push(one);
                }
                Ok(Executors(executors))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl JsonSchema for Executors {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Executors".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        std::collections::BTreeMap::<String, Executor>::json_schema(generator)
    }
}
