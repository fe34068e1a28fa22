//! Help, usage errors, schema and completions.

use crate::home::Home;

#[test]
fn help_has_commands_and_exit_codes() {
    let home = Home::new();
    home.run(&["--help"]).exits(0);
    home.run(&["build", "--help"]).exits(0);
    home.run(&["buidl"]).exits(2);
    home.run(&["build"]).exits(2);
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn schema_is_json_and_names_itself() {
    let schema = Home::new().run(&["recipe", "schema"]).json();
    assert_eq!(schema["title"], "nimctl.recipe/1");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn completions_for_each_shell() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        home.run(&["completions", shell]).exits(0).has(&["hash-profile"]);
    }
}

#[test]
fn no_colours_where_nobody_looks() {
    assert!(!Home::new().run(&["build", "absent.yaml"]).to_string().contains('\x1b'));
}

/// A full disk is a failure, and a reader that is done is none.
#[test]
fn results_that_do_not_arrive() {
    let home = Home::new();
    for command in
        [&["recipe", "schema"][..], &["--help"], &["completions", "bash"], &["doctor", "--output", "json"]]
    {
        let full = fs_err::File::options().write(true).open("/dev/full").unwrap();
        let output = home.command(command).stdout(full.into_parts().0).output().unwrap();
        home.printed(&output).exits(1).has(&["could not be written", "No space left on device"]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.command(command).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{command:?}");
    }
    // What went wrong with the command itself counts more.
    let full = fs_err::File::options().write(true).open("/dev/full").unwrap();
    let mut command = home.command(&["select", "-m", "absent.yaml", "--output", "json"]);
    let output = command.stdout(full.into_parts().0).output().unwrap();
    home.printed(&output).exits(1).has(&["absent.yaml", "could not be written"]);
}

#[test]
fn nobody_without_a_home() {
    let home = Home::new();
    home.output(home.command(&["toolchain", "list"]).env_remove("NIMCTL_DATA_DIR")).exits(1);
    insta::assert_snapshot!(home.transcript());
}
