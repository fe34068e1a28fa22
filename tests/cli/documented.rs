//! Tables that stand in the documentation and are what a test found.

use std::path::Path;

/// Fails unless the section of a page is this table; with `UPDATE_DOCS` set, writes it there.
#[track_caller]
pub(crate) fn is_documented(page: &str, heading: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs_err::read_to_string(&path).unwrap();
    let (before, section) =
        text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{page} has no `{heading}`"));
    let begins = section.find("\n| ").expect("the section has a table") + 1;
    let ends = section[begins..].find("\n\n").map_or(section.len(), |end| begins + end + 1);
    if section[begins..ends] == *table {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let section = format!("{}{table}{}", &section[..begins], &section[ends..]);
        fs_err::write(&path, format!("{before}\n{heading}\n{section}")).unwrap();
        return;
    }
    panic!("docs/{page} says otherwise: set UPDATE_DOCS=1 and run this test again to write\n{table}");
}
