//! Every recipe in `tests/fixtures/recipes/invalid`: a clear message with file, line and column, and exit code 1.

use std::path::Path;

use crate::support::User;

#[test]
fn each_is_refused_with_its_reason() {
    let user = User::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recipes/invalid");
    let mut recipes: Vec<_> = fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    recipes.sort();
    assert!(recipes.len() > 20, "the fixtures are missing");
    let mut text = String::new();
    for recipe in recipes {
        let said = user.run(&["recipe", "check", recipe.to_str().unwrap()]);
        assert_eq!(said.code, Some(1), "{}", said.text);
        text.push_str(&format!("# {}\n{}\n", recipe.file_name().unwrap().display(), said.text));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn build_refuses_them_too_and_writes_nothing() {
    let user = User::new();
    let recipe =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recipes/invalid/unknown_key.yaml");
    user.run(&["build", recipe.to_str().unwrap()])
        .expect(1, &["unknown_key.yaml:12:5", "did you mean `workspace_mib`?"]);
    assert!(!user.path("manifests").exists() && !user.path("data").exists());
}

#[test]
fn the_recipes_of_the_repository_are_valid() {
    let user = User::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    for entry in fs_err::read_dir(folder).unwrap() {
        user.run(&["recipe", "check", entry.unwrap().path().to_str().unwrap()]).expect(0, &[": ok, "]);
    }
}

#[test]
fn errors_are_json_where_asked_for() {
    let user = User::new();
    let said = user.run(&["build", "absent.yaml", "--output", "json"]);
    let error: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((error["schema"].as_str(), error["exit_code"].as_i64()), (Some("nimctl.error/1"), Some(1)));
}
