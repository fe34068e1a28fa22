//! The files and folders of samples that a recipe names must exist.

use std::collections::BTreeMap;
use std::path::Path;

use crate::nearest::{nearest, what_there_is};
use crate::recipe::{Recipe, RecipeGraph, UnknownName};
use crate::samples::Sample;
use crate::validation::ZeroShot;
use crate::worker::npy::archive;

/// Checks that every file, folder and array that a recipe's samples and labelled set name is there. What is in them is checked when
/// they are read.
///
/// # Errors
/// The first that isn't, with its line and the nearest name beside it.
pub(in crate::ops) fn check(recipe: &Recipe, folder: &Path) -> Result<(), UnknownName> {
    check_graphs(recipe, folder, "samples", |graph| &graph.samples)?;
    check_calibration(recipe, folder)?;
    check_labelled_set(recipe, folder)
}

/// Checks what calibration names alone.
///
/// # Errors
/// As [`check`].
pub(in crate::ops) fn check_calibration(recipe: &Recipe, folder: &Path) -> Result<(), UnknownName> {
    check_graphs(recipe, folder, "calibration", |graph| &graph.calibration)
}

fn at(recipe: &Recipe, path: &[&str], name: &str, problem: String) -> UnknownName {
    UnknownName { recipe: recipe.path.clone(), position: recipe.position(path, name), problem }
}

fn check_graphs(
    recipe: &Recipe,
    folder: &Path,
    key: &str,
    samples: impl Fn(&RecipeGraph) -> &BTreeMap<String, Sample>,
) -> Result<(), UnknownName> {
    for (graph, of_graph) in &recipe.graphs {
        for (input, sample) in samples(of_graph) {
            let files: Vec<(&[&str], &Path)> = match sample {
                Sample::Npy(path) => vec![(&["npy"], path)],
                Sample::Npz(npz) => vec![(&["npz", "file"], &npz.file)],
                Sample::Images(images) => vec![(&["images", "folder"], &images.folder)],
                Sample::Texts(texts) => {
                    vec![(&["texts", "file"], &texts.file), (&["texts", "tokenizer"], &texts.tokenizer)]
                }
                Sample::Normal(_) | Sample::Integers(_) => Vec::new(),
            };
            let of_input = ["graphs", graph, key, input];
            for (keys, path) in files {
                if let Some(problem) = absent(folder, path) {
                    let keys: Vec<&str> = of_input.iter().chain(keys).copied().collect();
                    let problem = format!("{key} of `{graph}/{input}`: {problem}");
                    return Err(at(recipe, &keys, &path.to_string_lossy(), problem));
                }
            }
            let Sample::Npz(npz) = sample else { continue };
            let array = npz.array.as_ref().unwrap_or(input);
            let Ok(known) = archive::names(&folder.join(&npz.file)) else { continue };
            if !known.contains(array) {
                let nearest = what_there_is(array, "its arrays are", known.iter().map(String::as_str));
                let problem = format!(
                    "{key} of `{graph}/{input}`: `{}` has no array `{array}`{nearest}",
                    npz.file.display()
                );
                let keys: Vec<&str> = of_input.iter().chain(&["npz", "array"]).copied().collect();
                return Err(at(recipe, &keys, array, problem));
            }
        }
    }
    Ok(())
}

fn check_labelled_set(recipe: &Recipe, folder: &Path) -> Result<(), UnknownName> {
    let Some(ZeroShot { images, tokenizer, classes, .. }) = &recipe.validation.zero_shot else {
        return Ok(());
    };
    for (key, path) in [("images", images), ("tokenizer", tokenizer)] {
        if let Some(problem) = absent(folder, path) {
            let keys = ["validation", "zero_shot", key];
            return Err(at(recipe, &keys, &path.to_string_lossy(), format!("`zero_shot`: {problem}")));
        }
    }
    for class in classes.keys() {
        if let Some(problem) = absent(folder, &images.join(class)) {
            let keys = ["validation", "zero_shot", "classes"];
            return Err(at(
                recipe,
                &keys,
                class,
                format!("`zero_shot`: the folder of class `{class}`: {problem}"),
            ));
        }
    }
    Ok(())
}

/// Says that there is nothing at a path, and what is called much like it.
pub(in crate::ops) fn absent(folder: &Path, path: &Path) -> Option<String> {
    let full = folder.join(path);
    if full.exists() {
        return None;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let parent = full.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = fs_err::read_dir(parent.unwrap_or(Path::new(".")));
    let beside = beside.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.file_name());
    let mut beside: Vec<String> = beside.map(|name| name.to_string_lossy().into_owned()).collect();
    beside.sort();
    let nearest = nearest(&name, beside.iter().map(String::as_str)).map(|name| path.with_file_name(name));
    let question = nearest.map_or_else(String::new, |path| format!("; did you mean `{}`?", path.display()));
    Some(format!("`{}` does not exist{question}", path.display()))
}
