//! `nimctl recipe`.

use std::process::ExitCode;

use nimctl::error_kind::ErrorKind;
use nimctl::ops::check_recipe::check_graphs;
use nimctl::profile::ProfileSpec;
use nimctl::recipe::Recipe;
use serde::Serialize;

use crate::cli;
use crate::exit::{Failure, code, done};
use crate::output::Output;
use crate::table::counted;

/// `nimctl.recipe-check/1`.
#[derive(Serialize)]
struct View {
    schema: &'static str,
    recipes: Vec<Checked>,
}

#[derive(Serialize)]
struct Checked {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    profiles: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) fn run(arguments: &cli::Recipe, output: &Output) -> Result<ExitCode, Failure> {
    match arguments {
        cli::Recipe::Schema => super::schema::run(cli::SchemaOf::Recipe, output),
        cli::Recipe::Check { recipes } => {
            let recipes: Vec<Checked> = recipes.iter().map(|path| check(path)).collect();
            let lines: Vec<String> = recipes
                .iter()
                .filter_map(|checked| {
                    let names = checked.profiles.as_ref()?;
                    Some(format!("{}: ok, {}\n", checked.path, counted(names.len(), "profile")))
                })
                .collect();
            recipes
                .iter()
                .filter_map(|checked| checked.error.as_deref())
                .for_each(|error| output.problem(error));
            let wrong = recipes.iter().any(|checked| checked.error.is_some());
            output.result(&lines.concat(), &View { schema: "nimctl.recipe-check/1", recipes });
            Ok(if wrong { ExitCode::from(code(ErrorKind::Input)) } else { done() })
        }
    }
}

fn check(path: &std::path::Path) -> Checked {
    let name = path.display().to_string();
    let recipe = match nimctl::files::text::read(path) {
        Ok(text) => Recipe::parse(&text, &name).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let recipe = recipe.and_then(|recipe| {
        check_graphs(&recipe).map_err(|error| error.to_string())?;
        Ok(recipe)
    });
    match recipe {
        Ok(recipe) => Checked {
            path: name,
            profiles: Some(recipe.profiles.iter().map(ProfileSpec::name).collect()),
            error: None,
        },
        Err(error) => Checked { path: name, profiles: None, error: Some(error) },
    }
}
