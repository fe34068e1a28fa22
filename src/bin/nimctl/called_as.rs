//! NIM's own commands: a link named `list-model-profiles` to `nimctl` runs that command.

use std::ffi::OsString;
use std::path::Path;

/// The commands of NIM that `nimctl` has under the same name.
const COMMANDS: [&str; 1] = ["list-model-profiles"];

/// Inserts the command that the program was called as, if it is one of NIM's.
pub(crate) fn arguments(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let called = arguments.first().and_then(|program| Path::new(program).file_name()).map(ToOwned::to_owned);
    if let Some(called) = called.filter(|called| COMMANDS.iter().any(|command| *called == **command)) {
        arguments.insert(1, called);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn a_name_is_a_command() {
        let called = |words: &[&str]| {
            let words = arguments(words.iter().map(Into::into));
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            called(&["/opt/bin/list-model-profiles", "-m", "x"]),
            "/opt/bin/list-model-profiles list-model-profiles -m x"
        );
        assert_eq!(called(&["/opt/bin/nimctl", "select"]), "/opt/bin/nimctl select");
        assert_eq!(called(&[]), "");
    }
}
