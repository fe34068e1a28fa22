//! Help, usage errors, schema and completions.

use crate::support::User;

#[test]
fn help_has_commands_and_exit_codes() {
    let user = User::new();
    user.run(&["--help"]).expect(0, &["build", "hash-profile", "toolchain", "Exit codes:"]);
    user.run(&["build", "--help"]).expect(0, &["Examples:", "--dry-run", "--require-all"]);
    user.run(&["buidl"]).expect(2, &["unrecognized subcommand 'buidl'", "build"]);
    user.run(&["build"]).expect(2, &["RECIPE"]);
}

#[test]
fn schema_is_json_and_names_itself() {
    let said = User::new().run(&["recipe", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(schema["title"], "nimctl.recipe/1");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn completions_for_each_shell() {
    let user = User::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        user.run(&["completions", shell]).expect(0, &["hash-profile"]);
    }
}

#[test]
fn no_colours_where_nobody_looks() {
    assert!(!User::new().run(&["build", "absent.yaml"]).text.contains('\x1b'));
}

#[test]
fn nobody_without_a_home() {
    let user = User::new();
    let mut command = user.command(&["toolchain", "list"]);
    let said = user.said(&command.env_remove("NIMCTL_DATA_DIR").output().unwrap());
    said.expect(1, &["--data-dir"]);
}
