//! NIM's own commands: a link to `nimctl` that is named like one of them, `list-model-profiles`, runs that command.

use std::ffi::OsString;
use std::path::Path;

/// The commands of NIM that `nimctl` has under the same name.
const COMMANDS: [&str; 3] = ["list-model-profiles", "download-to-cache", "create-model-store"];

/// Inserts the command that the program was called as, if it is one of NIM's.
pub(crate) fn arguments(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let called = arguments.first().and_then(|program| Path::new(program).file_name()?.to_str());
    // NIM has each by a second name: nim_list_model_profiles.
    let called = called.map(|called| called.strip_prefix("nim_").unwrap_or(called).replace('_', "-"));
    if let Some(command) = called.and_then(|called| COMMANDS.iter().find(|command| called == **command)) {
        arguments.insert(1, (*command).into());
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
        assert_eq!(called(&["nim_download_to_cache", "-p"]), "nim_download_to_cache download-to-cache -p");
        assert_eq!(called(&["create-model-store"]), "create-model-store create-model-store");
        assert_eq!(called(&["/opt/bin/nimctl", "select"]), "/opt/bin/nimctl select");
        assert_eq!(called(&[]), "");
    }
}
