//! Every recipe in `tests/fixtures/recipes/invalid`: a clear message with file, line and column, and exit code 1.

use std::path::Path;

use crate::home::Home;

#[test]
fn each_is_refused_with_its_reason() {
    let home = Home::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recipes/invalid");
    let mut recipes: Vec<_> = fs_err::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    recipes.sort();
    assert!(recipes.len() > 20, "the fixtures are missing");
    let mut text = String::new();
    for recipe in recipes {
        let printed = home.run(&["recipe", "check", recipe.to_str().unwrap()]);
        printed.exits(1);
        text.push_str(&format!("# {}\n{printed}\n", recipe.file_name().unwrap().display()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn build_refuses_them_too_and_writes_nothing() {
    let home = Home::new();
    let recipe =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recipes/invalid/unknown_key.yaml");
    home.run(&["build", recipe.to_str().unwrap()]).exits(1);
    assert!(!home.path("manifests").exists() && !home.path("data").exists());
    insta::assert_snapshot!(home.transcript());
}

#[test]
fn the_recipes_of_the_repository_are_valid() {
    let home = Home::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
    for entry in fs_err::read_dir(folder).unwrap() {
        home.run(&["recipe", "check", entry.unwrap().path().to_str().unwrap()]).exits(0).has(&[": ok, "]);
    }
}

#[test]
fn errors_are_json_where_asked_for() {
    let home = Home::new();
    let error = home.run(&["build", "absent.yaml", "--output", "json"]).json();
    assert_eq!((error["schema"].as_str(), error["exit_code"].as_i64()), (Some("nimctl.error/1"), Some(1)));
}
