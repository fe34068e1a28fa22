//! Which known name a wrong one probably stands for.

/// How alike two names have to be, from 0 to 1, for one to be offered for the other.
const ALIKE: f64 = 0.75;
/// The least length of a name that counts where it is a part of another.
const SHORTEST_PART: usize = 3;
/// The maximum number of known names in a message; of more, only the nearest is named.
const MAX_NAMES: usize = 12;

/// Returns the known name that is most like another one, ignoring case; `None` if none is like it.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let likeness = |known: &str| likeness(&known.to_lowercase(), &name);
    let all = known.into_iter().map(|known| (likeness(known), known));
    let likely = all.filter(|(likeness, _)| *likeness > ALIKE);
    // The first of those that are equally like it.
    likely.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, known)| known)
}

/// One wrong character, or a part of a name, is always alike, however short the rest is.
fn likeness(known: &str, name: &str) -> f64 {
    let alike = strsim::jaro_winkler(known, name);
    let one_off = known.len().min(name.len()) > 1 && strsim::osa_distance(known, name) == 1;
    let part = name.len() >= SHORTEST_PART && (known.contains(name) || name.contains(known));
    if one_off || part { alike.max(ALIKE + (1.0 - ALIKE) / 2.0) } else { alike }
}

/// Returns a question after the nearest known name, to end a message with: "; did you mean `x`?". Empty if no name is like it.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

/// Returns what there is, if it is not too much, and the question after the nearest: "; its outputs are `a`, `b`; did you mean
/// `a`?". `there` begins the list: "its outputs are".
pub fn what_there_is<'a>(
    name: &str,
    there: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    let names: Vec<String> =
        known.clone().into_iter().take(MAX_NAMES + 1).map(|name| format!("`{name}`")).collect();
    let list = match names.len() {
        1..=MAX_NAMES => format!("; {there} {}", names.join(", ")),
        _ => String::new(),
    };
    list + &did_you_mean(name, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_and_no_other() {
        let known = ["pixel_values", "input_ids", "attention_mask"];
        assert_eq!(nearest("pixel_value", known), Some("pixel_values"));
        assert_eq!(nearest("Input_IDs", known), Some("input_ids"));
        assert_eq!(nearest("mask", known), Some("attention_mask"));
        assert_eq!(nearest("x", ["", "y", "X"]), Some("X"));
        assert_eq!(nearest("x", ["", "y"]), None);
        assert_eq!(nearest("b23", ["tiny", "b32", "l14"]), Some("b32"));
        assert_eq!(nearest("audio", known), None);
        assert_eq!(
            what_there_is("input_id", "its inputs are", known),
            "; its inputs are `pixel_values`, `input_ids`, `attention_mask`; did you mean `input_ids`?"
        );
        let many: Vec<String> = (0..20).map(|number| format!("/layer.{number}/MatMul")).collect();
        let many = many.iter().map(String::as_str);
        assert_eq!(
            what_there_is("/layer.7/Matmul", "they are", many.clone()),
            "; did you mean `/layer.7/MatMul`?"
        );
        assert_eq!(what_there_is("x", "they are", many), "");
    }
}
