//! Where a name stands in a document.

use super::{Node, Position, Value};

impl Node {
    /// Returns where a name stands: as a key, an item or the value of what `path` leads to, in which `*` is every key and item.
    pub fn find(&self, path: &[&str], name: &str) -> Option<Position> {
        let Some((first, rest)) = path.split_first() else { return self.find_here(name) };
        match &self.value {
            Value::Mapping(pairs) => pairs
                .iter()
                .filter(|(key, _)| *first == "*" || key.as_text() == Some(first))
                .find_map(|(_, value)| value.find(rest, name)),
            Value::Sequence(items) if *first == "*" => items.iter().find_map(|item| item.find(rest, name)),
            Value::Sequence(_) | Value::Scalar { .. } => None,
        }
    }

    fn find_here(&self, name: &str) -> Option<Position> {
        let is_it = |node: &&Node| node.as_text() == Some(name);
        match &self.value {
            Value::Mapping(pairs) => pairs.iter().map(|(key, _)| key).find(is_it).map(|key| key.position),
            Value::Sequence(items) => items.iter().find(is_it).map(|item| item.position),
            Value::Scalar { .. } => is_it(&self).then_some(self.position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, parse};

    #[test]
    fn names_are_found_where_they_stand() {
        let text =
            "graphs:\n  a: { samples: { x: 1 } }\nprofiles:\n- keep: [one]\n- keep:\n  - \"two\"\nmodel: m\n";
        let document = parse(text.as_bytes(), &Limits::default()).unwrap();
        let at =
            |path: &[&str], name| document.find(path, name).map(|position| (position.line, position.column));
        assert_eq!(at(&["graphs", "a", "samples"], "x"), Some((2, 19)));
        assert_eq!(at(&["graphs", "*", "samples"], "x"), Some((2, 19)));
        assert_eq!(at(&["profiles", "*", "keep"], "two"), Some((6, 5)));
        assert_eq!(at(&["profiles", "*", "keep"], "three"), None);
        assert_eq!(at(&["model"], "m"), Some((7, 8)));
        assert_eq!(at(&["model", "name"], "m"), None);
        assert_eq!(at(&["absent"], "m"), None);
    }
}
