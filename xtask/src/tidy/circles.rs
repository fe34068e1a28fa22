//! The library's modules form no circle: each one can be read after those that it uses.

use std::collections::BTreeMap;

use super::Finding;
use super::code::{is_of_tests, modules_used, only_code, without_tests};

/// Which modules each module uses, with the first place where it does.
#[derive(Debug, Default)]
pub(super) struct Uses(BTreeMap<String, BTreeMap<String, (String, usize)>>);

impl Uses {
    /// Adds what a file of the library uses; other files are left out, and so are tests.
    pub(super) fn add(&mut self, path: &str, text: &str) {
        let library = path.strip_prefix("src/").filter(|inner| !inner.starts_with("bin/"));
        let Some(inner) = library.and_then(|inner| inner.strip_suffix(".rs")) else { return };
        let module = inner.split('/').next().unwrap_or(inner);
        if module == "lib" || is_of_tests(inner) {
            return;
        }
        let uses = self.0.entry(module.to_owned()).or_default();
        for (line, used, _) in modules_used(without_tests(&only_code(text)), &["crate::"]) {
            if used != module {
                uses.entry(used).or_insert_with(|| (path.to_owned(), line));
            }
        }
    }

    /// Returns one finding for each module that uses itself through others.
    pub(super) fn circles(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut done: Vec<&str> = Vec::new();
        for module in self.0.keys().map(String::as_str) {
            if let Some(circle) = self.way_back(module, &done) {
                let (path, line) = &self.0[module][circle[1]];
                let rule = format!("modules form a circle: {}", circle.join(" → "));
                findings.push(Finding { path: path.clone(), line: *line, rule });
            }
            // Every circle is found from its first module.
            done.push(module);
        }
        findings
    }

    /// Returns the shortest way from a module to itself.
    fn way_back<'u>(&'u self, module: &'u str, without: &[&str]) -> Option<Vec<&'u str>> {
        let mut ways = vec![vec![module]];
        let mut seen: Vec<&str> = without.to_vec();
        let mut next = 0;
        while let Some(way) = ways.get(next).cloned() {
            next += 1;
            for used in self.0.get(way[way.len() - 1])?.keys().map(String::as_str) {
                if used == module {
                    return Some([way.as_slice(), &[module]].concat());
                }
                if self.0.contains_key(used) && !seen.contains(&used) {
                    seen.push(used);
                    ways.push([way.as_slice(), &[used]].concat());
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Uses;

    #[test]
    fn a_circle_is_reported_once_and_tests_make_none() {
        let mut uses = Uses::default();
        uses.add("src/a/mod.rs", "use crate::b::X;");
        uses.add("src/b.rs", "\nuse crate::{c, d};");
        uses.add("src/c/y.rs", "use crate::a;\nuse super::d;");
        uses.add("src/d.rs", "// use crate::b\n#[cfg(test)]\nmod tests { use crate::b; }");
        uses.add("src/bin/nimctl/main.rs", "use crate::a;");
        let circles = uses.circles();
        let [circle] = circles.as_slice() else { panic!("{circles:?}") };
        assert_eq!((circle.path.as_str(), circle.line), ("src/a/mod.rs", 1));
        assert_eq!(circle.rule, "modules form a circle: a → b → c → a");
    }
}
