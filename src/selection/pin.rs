//! A profile that the user names.

use crate::manifest::ManifestProfile;

/// Min characters of an id's prefix that select a profile.
const MIN_PREFIX: usize = 4;
/// Max similar names that an error suggests.
const MAX_NEAREST: usize = 3;
/// Max comparisons to recognize a description; one of twenty tags takes a few hundred.
const MAX_STEPS: usize = 20_000;

/// A pin that names no profile, or several.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// No profile matches.
    #[error("no profile is called `{pin}`{}", offered(.nearest))]
    Unknown {
        /// What was asked for.
        pin: String,
        /// Ids and names of the nearest profiles.
        nearest: Vec<String>,
    },
    /// Several profiles match.
    #[error("`{pin}` matches {} profiles: {}", .candidates.len(), .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        pin: String,
        /// Ids and names of the profiles.
        candidates: Vec<String>,
    },
}

fn offered(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!("; the nearest are {}", nearest.join(", ")) }
}

/// Finds the profile that a pin names: by its id; by a prefix of its id, at least four characters; by its readable name;
/// by an id followed by its name, as lists print it; or by NIM's description, which has the values of further tags as well.
/// Returns its index.
///
/// # Errors
/// No such profile, or more than one.
pub fn find_pinned(profiles: &[ManifestProfile], pin: &str) -> Result<usize, PinError> {
    let text = pin.trim().trim_matches(['"', '\'']);
    if let Some(place) = profiles.iter().position(|profile| profile.id == text) {
        return Ok(place);
    }
    // `<id> (<name>)`: ids have no spaces; free-form ids with spaces were matched above.
    let bare = text.split_once(char::is_whitespace).map_or(text, |(id, _)| id);
    if let Some(place) = profiles.iter().position(|profile| profile.id == bare) {
        return Ok(place);
    }
    let shown = |place: &usize| format!("{} ({})", profiles[*place].id, profiles[*place].readable_name());
    let one = |places: Vec<usize>| match places.as_slice() {
        [] => None,
        [place] => Some(Ok(*place)),
        _ => {
            Some(Err(PinError::Ambiguous { pin: pin.into(), candidates: places.iter().map(shown).collect() }))
        }
    };
    let all = || profiles.iter().enumerate();
    let named = all().filter(|(_, profile)| profile.readable_name().eq_ignore_ascii_case(text));
    if let Some(found) = one(named.map(|(place, _)| place).collect()) {
        return found;
    }
    if bare.chars().count() >= MIN_PREFIX {
        let begins = all().filter(|(_, profile)| {
            profile.id.starts_with(&bare.to_lowercase()) || profile.id.starts_with(bare)
        });
        if let Some(found) = one(begins.map(|(place, _)| place).collect()) {
            return found;
        }
    }
    let described = all().filter(|(_, profile)| is_description(profile, text));
    if let Some(found) = one(described.map(|(place, _)| place).collect()) {
        return found;
    }
    let likeness = |profile: &ManifestProfile| {
        let by_id = strsim::jaro_winkler(&profile.id, bare);
        by_id.max(strsim::jaro_winkler(&profile.readable_name(), text))
    };
    let mut by_likeness: Vec<(f64, usize)> =
        all().map(|(place, profile)| (likeness(profile), place)).collect();
    by_likeness.sort_by(|(a, place_a), (b, place_b)| {
        b.total_cmp(a).then_with(|| profiles[*place_a].id.cmp(&profiles[*place_b].id))
    });
    let nearest = by_likeness.iter().take(MAX_NEAREST).map(|(_, place)| shown(place)).collect();
    Err(PinError::Unknown { pin: pin.into(), nearest })
}

/// Returns whether a text is NIM's description of a profile, `tensorrt_llm-h100-fp8-tp1-pp1-throughput-2330:10de-…`: the parts
/// of its readable name and values of other tags, joined by `-`, in any order.
fn is_description(profile: &ManifestProfile, text: &str) -> bool {
    let text = text.to_lowercase();
    let name = profile.name_parts();
    let values = profile.tags.values().map(|value| value.trim().to_lowercase());
    let mut left: Vec<(String, bool)> = name.into_iter().map(|part| (part.to_lowercase(), true)).collect();
    left.extend(values.filter(|value| !value.is_empty()).map(|value| (value, false)));
    let mut steps = MAX_STEPS;
    !left.is_empty() && consists_of(&text, &mut left, &mut steps)
}

/// Returns whether a text consists of some of these parts, each used at most once, and all needed ones among them.
fn consists_of(text: &str, left: &mut Vec<(String, bool)>, steps: &mut usize) -> bool {
    for place in 0..left.len() {
        if *steps == 0 {
            return false;
        }
        *steps -= 1;
        let Some(rest) = text.strip_prefix(left[place].0.as_str()) else { continue };
        let part = left.remove(place);
        let found = match rest.strip_prefix('-') {
            Some(rest) => consists_of(rest, left, steps),
            None => rest.is_empty() && left.iter().all(|(_, is_needed)| !is_needed),
        };
        left.insert(place, part);
        if found {
            return true;
        }
    }
    false
}
