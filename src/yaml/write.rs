//! Tree → text, in block style: lists stand at the indentation of their key, strings have double quotes where a reader
//! of YAML 1.1 or 1.2 could take it for something else.

use super::{Node, Value};

/// Returns the text of a document.
pub fn write(document: &Node) -> String {
    let mut text = String::new();
    match &document.value {
        Value::Mapping(pairs) if !pairs.is_empty() => {
            if let Some(tag) = &document.tag {
                text.push_str(&format!("--- {tag}\n"));
            }
            write_pairs(&mut text, pairs, 0, false);
        }
        Value::Sequence(items) if !items.is_empty() => {
            if let Some(tag) = &document.tag {
                text.push_str(&format!("--- {tag}\n"));
            }
            write_items(&mut text, items, 0, false);
        }
        _ => {
            write_flat(&mut text, document, false);
            text.push('\n');
        }
    }
    text
}

/// Writes pairs; the first without its indentation if the line has begun.
fn write_pairs(text: &mut String, pairs: &[(Node, Node)], indent: usize, begun: bool) {
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 || !begun {
            spaces(text, indent);
        }
        write_flat(text, key, true);
        text.push(':');
        match &value.value {
            Value::Mapping(inner) if !inner.is_empty() => {
                write_tag_after(text, value);
                text.push('\n');
                write_pairs(text, inner, indent + 2, false);
            }
            Value::Sequence(inner) if !inner.is_empty() => {
                write_tag_after(text, value);
                text.push('\n');
                write_items(text, inner, indent, false);
            }
            _ => {
                text.push(' ');
                write_flat(text, value, false);
                text.push('\n');
            }
        }
    }
}

/// Writes items; the first without its indentation if the line has begun.
fn write_items(text: &mut String, items: &[Node], indent: usize, begun: bool) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 || !begun {
            spaces(text, indent);
        }
        text.push('-');
        let tagged = item.tag.is_some();
        match &item.value {
            Value::Mapping(inner) if !inner.is_empty() => {
                write_tag_after(text, item);
                text.push(if tagged { '\n' } else { ' ' });
                write_pairs(text, inner, indent + 2, !tagged);
            }
            Value::Sequence(inner) if !inner.is_empty() => {
                write_tag_after(text, item);
                text.push(if tagged { '\n' } else { ' ' });
                write_items(text, inner, indent + 2, !tagged);
            }
            _ => {
                text.push(' ');
                write_flat(text, item, false);
                text.push('\n');
            }
        }
    }
}

fn write_tag_after(text: &mut String, node: &Node) {
    if let Some(tag) = &node.tag {
        text.push(' ');
        text.push_str(tag);
    }
}

/// Writes a scalar, or a list or mapping without anything in it.
fn write_flat(text: &mut String, node: &Node, is_key: bool) {
    if let Some(tag) = &node.tag {
        text.push_str(tag);
        text.push(' ');
    }
    match &node.value {
        Value::Sequence(_) => text.push_str("[]"),
        Value::Mapping(_) => text.push_str("{}"),
        Value::Scalar { text: scalar, plain: true } if scalar.is_empty() => {
            text.push_str(if node.tag.is_some() { "\"\"" } else { "null" });
        }
        Value::Scalar { text: scalar, plain } => {
            // A plain scalar that means something stays plain; the text of one that doesn't may be quoted.
            if can_be_plain(scalar, is_key && !plain) && (*plain || !is_ambiguous(scalar)) {
                text.push_str(scalar);
            } else {
                quote(text, scalar);
            }
        }
    }
}

fn spaces(text: &mut String, count: usize) {
    text.extend(std::iter::repeat_n(' ', count));
}

/// Returns whether a plain scalar may stand for a number, a date, a boolean, null or a merge key, to a reader of any
/// version of YAML; too often rather than too seldom.
pub(super) fn is_ambiguous(text: &str) -> bool {
    const WORDS: [&str; 14] =
        ["~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", "<<", "=", "nan", "inf"];
    let bare = text.strip_prefix(['+', '-']).unwrap_or(text);
    let word = bare.strip_prefix('.').unwrap_or(bare);
    if word.is_empty() {
        return text.is_empty();
    }
    if WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
        return true;
    }
    if !word.starts_with(|c: char| c.is_ascii_digit()) {
        return false;
    }
    let based = ["0x", "0o", "0b", "0X", "0O", "0B"].iter().any(|prefix| {
        bare.strip_prefix(prefix)
            .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_'))
    });
    based || word.bytes().all(|byte| byte.is_ascii_digit() || b"._eE+-: tTzZ,".contains(&byte))
}

/// Returns whether a string needs no quotes, on one line, in a block.
fn can_be_plain(text: &str, is_key: bool) -> bool {
    let Some(first) = text.chars().next() else { return false };
    let second_is_space = text.chars().nth(1).is_none_or(|c| c == ' ');
    let indicator = ",[]{}#&*!|>'\"%@`".contains(first) || "-?:".contains(first) && second_is_space;
    let marker = ["---", "..."].iter().any(|marker| text.starts_with(marker));
    let inside = text.contains(": ") || text.contains(" #") || text.ends_with(':');
    let spaced = text.starts_with(' ') || text.ends_with(' ');
    let printable = text.chars().all(|c| !needs_escape(c));
    !(indicator || marker || inside || spaced) && printable && !(is_key && text.contains(':'))
}

fn needs_escape(c: char) -> bool {
    c.is_control() || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}

fn quote(text: &mut String, scalar: &str) {
    text.push('"');
    for c in scalar.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if needs_escape(c) => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, parse};
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        let tree = parse(source.as_bytes(), &Limits::default()).unwrap();
        let text = write(&tree);
        assert_eq!(text, expected, "{tree:?}");
        let again = parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(again, tree);
        assert_eq!(write(&again), text);
    }

    #[test]
    fn styles() {
        check(
            "{a: 1, b: '1', c: [x, {d: e, f: []}], g: {}}",
            "a: 1\nb: \"1\"\nc:\n- x\n- d: e\n  f: []\ng: {}\n",
        );
        check("- - a\n  - b\n- [[c]]\n", "- - a\n  - b\n- - - c\n");
        check("a:\nb: ~\nc: null\nd: ''\n", "a: null\nb: ~\nc: null\nd: \"\"\n");
        check("a: |\n  x\n  y\nb: >-\n  x\n  y\n", "a: \"x\\ny\\n\"\nb: x y\n");
        check("a: 'x: y'\nb: \"#\"\nc: x#y\n'd:e': f\n", "a: \"x: y\"\nb: \"#\"\nc: x#y\n\"d:e\": f\n");
        check("-: a\n1:20: b\n'1:30': c\n", "\"-\": a\n1:20: b\n\"1:30\": c\n");
        check("yes\n", "yes\n");
        check("'yes'\n", "\"yes\"\n");
        check(
            "a: '2.0'\nb: 0a2b\nc: '2684:10'\nd: 1.7.1.116x\n",
            "a: \"2.0\"\nb: 0a2b\nc: \"2684:10\"\nd: 1.7.1.116x\n",
        );
    }

    #[test]
    fn tags() {
        check(
            "w: !workspace\n  c:\n  - dst: e\n    f:\n      - !name 'LICENSE.txt'\n      - !name 12\n",
            "w: !workspace\n  c:\n  - dst: e\n    f:\n    - !name LICENSE.txt\n    - !name 12\n",
        );
        check("a: !x [b]\nc: !y\nd: !!str 1\ne: ! 2\n", "a: !x\n- b\nc: !y \"\"\nd: !!str 1\ne: ! 2\n");
        let tagged = parse(b"a: !x", &Limits::default()).unwrap();
        assert_eq!(tagged.get("a").unwrap().as_text(), Some(""));
        check("- !m {a: b}\n- !s [c]\n- !e []\n", "- !m\n  a: b\n- !s\n  - c\n- !e []\n");
        check(
            "%TAG !e! tag:example.com,2000:\n--- !e!doc\na: !e!x b\n",
            "--- !<tag:example.com,2000:doc>\na: !<tag:example.com,2000:x> b\n",
        );
    }

    #[test]
    fn aliases_and_merges_are_written_out() {
        check("a: &x {k: v}\nb: *x\n", "a:\n  k: v\nb:\n  k: v\n");
        check("a: &x {k: v, l: w}\nb: {<<: *x, k: u}\n", "a:\n  k: v\n  l: w\nb:\n  k: u\n  l: w\n");
        check("b: {<<: [{k: v}, {k: w, m: n}], '<<<': u}\n", "b:\n  <<<: u\n  k: v\n  m: n\n");
    }

    fn tree() -> impl Strategy<Value = Node> {
        let text = prop_oneof![
            "[ -~]{0,12}",
            any::<String>(),
            prop::sample::select(vec![
                "yes",
                "1.0",
                "~",
                "-",
                "? a",
                "<<",
                "0x1f",
                "2024-01-01",
                "---",
                "a: b"
            ])
            .prop_map(String::from),
        ];
        let tag = prop::option::weighted(0.2, "![a-z]{1,5}".prop_map(String::into_boxed_str));
        let leaf = (text.clone(), tag.clone()).prop_map(|(text, tag)| Node { tag, ..Node::text(text) });
        leaf.prop_recursive(4, 32, 5, move |inner| {
            let items = prop::collection::vec(inner.clone(), 0..5).prop_map(Node::sequence);
            let pairs = prop::collection::btree_map(text.clone(), inner, 0..5).prop_map(Node::mapping);
            (prop_oneof![items, pairs], tag.clone()).prop_map(|(node, tag)| Node { tag, ..node })
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(tree in tree()) {
            let text = write(&tree);
            let again = parse(text.as_bytes(), &Limits::default());
            prop_assert_eq!(again.as_ref(), Ok(&tree), "{}", text);
        }

        /// Our serializer of typed files and this one agree where both write the same thing.
        #[test]
        fn other_parsers_read_the_same(texts in prop::collection::vec("[ -~é\n]{0,10}", 1..5)) {
            let tree = Node::sequence(texts.iter().map(|text| Node::text(text.as_str())).collect());
            let read: Vec<String> = serde_saphyr::from_str(&write(&tree)).unwrap();
            prop_assert_eq!(read, texts);
        }
    }
}
