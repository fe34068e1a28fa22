//! Text → tree.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{Node, Position, Value, YamlError};

/// The limits of a document.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of text.
    pub text_bytes: usize,
    /// Most levels of nesting.
    pub depth: usize,
    /// Most nodes that aliases and merge keys may add to those that are written out.
    pub alias_nodes: usize,
    /// Most nodes in all.
    pub nodes: usize,
}

impl Default for Limits {
    /// Ten times what a manifest of 200,000 files needs in nodes, and three times in text.
    fn default() -> Self {
        Self { text_bytes: 64 << 20, depth: 64, alias_nodes: 100_000, nodes: 4_000_000 }
    }
}

/// Parses one document.
///
/// # Errors
/// Text that isn't UTF-8 or YAML, that goes beyond the limits, that refers to itself or to a missing anchor, that has a
/// key twice, or that has more than one document; each with its position.
pub fn parse(text: &[u8], limits: &Limits) -> Result<Node, YamlError> {
    if text.len() > limits.text_bytes {
        let message = format!("more than {} bytes of YAML, the maximum", limits.text_bytes);
        return Err(YamlError { position: Position { line: 1, column: 1 }, message });
    }
    let text = crate::text_encoding::without_mark(text);
    let text = std::str::from_utf8(text).map_err(|error| not_utf8(text, error.valid_up_to()))?;
    let options = granit_parser::options! {
        flow_nesting_limit: limits.depth,
        block_nesting_limit: limits.depth,
    };
    let mut tree = Tree::new(limits);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| YamlError {
            position: position(error.marker().line(), error.marker().col()),
            message: error.info(),
        })?;
        tree.take(event, &span)?;
    }
    tree.root.ok_or_else(|| YamlError {
        position: Position { line: 1, column: 1 },
        message: "no YAML document was found".into(),
    })
}

fn not_utf8(text: &[u8], at: usize) -> YamlError {
    let before = &text[..at];
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count();
    YamlError { position: position(line, column), message: format!("byte {at} is not UTF-8") }
}

/// Makes a position of a line counted from 1 and a column counted from 0.
fn position(line: usize, column: usize) -> Position {
    Position { line: line as u32, column: column as u32 + 1 }
}

/// A list or mapping that is not complete.
struct Open {
    position: Position,
    tag: Option<Box<str>>,
    anchor: usize,
    content: Content,
    /// Nodes before it began.
    nodes_before: usize,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { pairs: Vec<(Node, Node)>, key: Option<Node> },
}

struct Tree<'a> {
    limits: &'a Limits,
    open: Vec<Open>,
    root: Option<Node>,
    /// Nodes by anchor, with the number of nodes in each; without the node while it is open.
    anchors: BTreeMap<usize, Option<(Node, usize)>>,
    nodes: usize,
    alias_nodes: usize,
    documents: usize,
}

impl<'a> Tree<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self {
            limits,
            open: Vec::new(),
            root: None,
            anchors: BTreeMap::new(),
            nodes: 0,
            alias_nodes: 0,
            documents: 0,
        }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
        let position = position(span.start.line(), span.start.col());
        let error = |message: String| YamlError { position, message };
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(error("a second document begins here; expected only one".into()));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                // The parser says `~` where nothing is written.
                let text = if plain && span.is_empty() { "" } else { &*text };
                let value = Value::Scalar { text: text.into(), plain };
                self.count(1, position)?;
                self.complete(Node { position, tag: tag.map(|tag| written(&tag)), value }, anchor, 1)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(Content::Sequence(Vec::new()), position, anchor, tag.as_deref())?;
            }
            Event::MappingStart(_, anchor, tag) => {
                // Two, as most mappings of a manifest have: a vector's own choice is four.
                let content = Content::Mapping { pairs: Vec::with_capacity(2), key: None };
                self.begin(content, position, anchor, tag.as_deref())?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { position, tag, anchor, content, nodes_before }) = self.open.pop() else {
                    return Err(error("a list or mapping ends that did not begin".into()));
                };
                let value = match content {
                    Content::Sequence(items) => Value::Sequence(items),
                    Content::Mapping { pairs, .. } => Value::Mapping(self.finish_mapping(pairs)?),
                };
                let nodes = self.nodes - nodes_before;
                self.complete(Node { position, tag, value }, anchor, nodes)?;
            }
            Event::Alias(anchor) => {
                let Some((node, nodes)) = self.anchors.get(&anchor).cloned().flatten() else {
                    return Err(error("this alias refers to a node that contains it".into()));
                };
                self.count_alias(nodes, position)?;
                self.complete(Node { position, ..node }, 0, nodes)?;
            }
            // The rest is about the stream, or asked for by options that are off.
            _ => {}
        }
        Ok(())
    }

    fn begin(
        &mut self,
        content: Content,
        position: Position,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), YamlError> {
        if self.open.len() >= self.limits.depth {
            let message = format!("nested deeper than {} levels", self.limits.depth);
            return Err(YamlError { position, message });
        }
        let nodes_before = self.nodes;
        self.count(1, position)?;
        if anchor != 0 {
            self.anchors.insert(anchor, None);
        }
        self.open.push(Open { position, tag: tag.map(written), anchor, content, nodes_before });
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn complete(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), YamlError> {
        if anchor != 0 {
            self.count_alias(nodes, node.position)?;
            self.anchors.insert(anchor, Some((node.clone(), nodes)));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::Sequence(items)) => items.push(node),
            Some(Content::Mapping { pairs, key }) => match key.take() {
                Some(key) => pairs.push((key, node)),
                None if matches!(node.value, Value::Scalar { .. }) => *key = Some(node),
                None => {
                    let message = format!("{} cannot be a key here; use a string", node.kind());
                    return Err(YamlError { position: node.position, message });
                }
            },
        }
        Ok(())
    }

    /// Resolves merge keys, and refuses duplicate keys.
    fn finish_mapping(&mut self, mut pairs: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, YamlError> {
        let is_merge =
            |key: &Node| matches!(&key.value, Value::Scalar { text, plain: true } if &**text == "<<");
        let mut merged = Vec::new();
        if let Some(place) = pairs.iter().position(|(key, _)| is_merge(key)) {
            let (key, value) = pairs.remove(place);
            let sources = match value.value {
                Value::Sequence(items) => items,
                _ => vec![value],
            };
            for source in sources {
                let Value::Mapping(more) = source.value else {
                    let message = format!("`<<` merges mappings, but this is {}", source.kind());
                    return Err(YamlError { position: key.position, message });
                };
                merged.extend(more);
            }
        }
        if pairs.len() < 8 && merged.is_empty() {
            // Few pairs are compared faster than they are sorted.
            for (index, (key, _)) in pairs.iter().enumerate() {
                if let Some((first, _)) = pairs[..index].iter().find(|(other, _)| text(other) == text(key)) {
                    return Err(twice(first, key));
                }
            }
            return Ok(pairs);
        }
        let mut places: BTreeMap<&str, &Node> = BTreeMap::new();
        for (key, _) in &pairs {
            if let Some(first) = places.insert(text(key), key) {
                return Err(twice(first, key));
            }
        }
        if !merged.is_empty() {
            let mut names: BTreeSet<Box<str>> = pairs.iter().map(|(key, _)| text(key).into()).collect();
            for (key, value) in merged {
                if names.insert(text(&key).into()) {
                    pairs.push((key, value));
                }
            }
        }
        Ok(pairs)
    }

    fn count(&mut self, nodes: usize, position: Position) -> Result<(), YamlError> {
        self.nodes += nodes;
        if self.nodes > self.limits.nodes {
            let message = format!("more than {} nodes", self.limits.nodes);
            return Err(YamlError { position, message });
        }
        Ok(())
    }

    fn count_alias(&mut self, nodes: usize, position: Position) -> Result<(), YamlError> {
        self.alias_nodes += nodes;
        if self.alias_nodes > self.limits.alias_nodes {
            let message = format!("aliases expand to more than {} nodes", self.limits.alias_nodes);
            return Err(YamlError { position, message });
        }
        self.count(nodes, position)
    }
}

fn text(key: &Node) -> &str {
    match &key.value {
        Value::Scalar { text, .. } => text,
        _ => "",
    }
}

fn twice(first: &Node, second: &Node) -> YamlError {
    let message = format!("duplicate key `{}`, first at {}", text(second), first.position);
    YamlError { position: second.position, message }
}

/// Returns a tag as it can be written in any document: without directives.
fn written(tag: &Tag) -> Box<str> {
    let (handle, suffix) = (tag.handle(), tag.suffix());
    if handle.is_empty() && suffix == "!" {
        return suffix.into();
    }
    let mut text = String::new();
    let verbatim = match handle {
        "!" => {
            text.push('!');
            false
        }
        "tag:yaml.org,2002:" => {
            text.push_str("!!");
            false
        }
        other => {
            text.push_str("!<");
            escape_into(&mut text, other);
            true
        }
    };
    escape_into(&mut text, suffix);
    if verbatim {
        text.push('>');
    }
    text.into()
}

/// Writes what can't stand in a tag as `%XX`.
fn escape_into(text: &mut String, part: &str) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric()
            || b"-_.~:@/+*'()=;&$?#".contains(&byte)
            || b"!,[]".contains(&byte) && text.starts_with("!<")
        {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { text_bytes: 1000, depth: 5, alias_nodes: 20, nodes: 100 };

    #[track_caller]
    fn refused(text: impl AsRef<[u8]>, expected: &str) {
        let error = parse(text.as_ref(), &SMALL).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn positions() {
        let tree = parse("a:\n  - é: b\n".as_bytes(), &SMALL).unwrap();
        let item = &tree.get("a").unwrap().as_sequence().unwrap()[0];
        assert_eq!(item.get("é").unwrap().position, Position { line: 2, column: 8 });
    }

    #[test]
    fn what_is_no_yaml_is_refused() {
        refused("", "1:1: no YAML document");
        refused("a: [", "1:4: unclosed bracket");
        refused("a: b\n\tc: d\n", "found a tab");
        refused(b"a: b\nc: \xff\n", "2:4: byte 8 is not UTF-8");
        refused("a: b\n---\nc: d\n", "2:1: a second document");
        refused("a: *x\n", "1:4: ");
        refused("a: 1\nb: 2\na: 3\n", "3:1: duplicate key `a`, first at 1:1");
        refused(
            "{a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1, c: 1}",
            "1:56: duplicate key `c`, first at 1:14",
        );
        refused("? [a]\n: b\n", "1:3: a list cannot be a key");
        refused("<<: a\n", "1:1: `<<` merges mappings, but this is a string");
    }

    #[test]
    fn what_is_hostile_is_refused() {
        refused("x".repeat(1001), "more than 1000 bytes of YAML");
        refused("[".repeat(400), "");
        refused("- ".repeat(400), "");
        refused("[[[[[[a]]]]]]", "");
        refused("[x,".repeat(4) + &"x,".repeat(100) + "]]]]", "more than 100 nodes");
        refused("a: &x [*x]\n", "1:8: this alias refers to a node that contains it");
        refused("a: &x {b: {<<: *x}}\n", "1:16: this alias refers to a node that contains it");
        let bomb = "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: &c [*b,*b,*b]\n";
        refused(bomb, "aliases expand to more than 20 nodes");
    }
}
