//! Patterns for names, in which `*` stands for anything: those of `--only` and of release policies.

/// Returns whether a whole name matches a pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
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
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("tensorrt-rtx-l4-fp16", "tensorrt-rtx-l4-fp16", true),
            ("tensorrt-rtx-l4", "tensorrt-rtx-l4-fp16", false),
            ("tensorrt-rtx-l4*", "tensorrt-rtx-l40s-fp16", true),
            ("*-fp16", "tensorrt-rtx-l4-fp16", true),
            ("*-fp16", "onnx-fp32", false),
            ("*l4*fp16", "tensorrt-rtx-l4-fp16", true),
            ("*l4*bf16", "tensorrt-rtx-l4-fp16", false),
            ("a*c*", "abcd", true),
            ("*", "onnx-fp16", true),
            ("*", "", true),
            ("ab*b", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
