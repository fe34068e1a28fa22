//! Finds a small set of items with which a check passes: delta debugging (Zeller and Hildebrandt, 2002) over the
//! nodes of a graph in their order, so that its parts are blocks of the graph.
//!
//! With all items the check passes. Parts and then complements of parts are tried, in halves, quarters and so on; what
//! passes is searched further. In the end no single item can be left out. A check costs a run of the graph, so there is
//! a limit to their number, and the best set so far is returned when it is reached.

use std::collections::BTreeSet;

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The items with which the check passes.
    pub items: BTreeSet<usize>,
    /// Whether no item can be left out; otherwise the limit was reached.
    pub complete: bool,
}

/// Whether a set passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Passes,
    /// It doesn't.
    Fails,
    /// No more checks are to be made.
    OutOfBudget,
}

/// Searches for a small part of `items` that passes; all items together must.
///
/// # Errors
/// Those of `check`.
pub fn smallest_passing<E>(
    items: Vec<usize>,
    check: &mut dyn FnMut(&BTreeSet<usize>) -> Result<Verdict, E>,
) -> Result<Found, E> {
    let mut current = items;
    let mut parts = 2usize;
    let set = |items: &[usize]| items.iter().copied().collect::<BTreeSet<usize>>();
    let out_of_budget = |items: &[usize]| Ok(Found { items: set(items), complete: false });
    while !current.is_empty() {
        parts = parts.min(current.len());
        let length = current.len().div_ceil(parts);
        let mut smaller = None;
        let chunks: Vec<&[usize]> = current.chunks(length).collect();
        // One part is all there is: nothing at all may do.
        let parts_alone =
            if parts == 1 { vec![Vec::new()] } else { chunks.iter().map(|part| part.to_vec()).collect() };
        let complements = chunks.iter().enumerate().map(|(index, _)| {
            let others = chunks.iter().enumerate().filter(|(other, _)| *other != index);
            others.flat_map(|(_, part)| part.iter().copied()).collect::<Vec<usize>>()
        });
        // Of two parts the complements are the parts.
        let complements = complements.filter(|_| parts > 2);
        for (candidate, next_parts) in parts_alone
            .into_iter()
            .map(|part| (part, 2))
            .chain(complements.map(|rest| (rest, (parts - 1).max(2))))
        {
            match check(&set(&candidate))? {
                Verdict::Passes => {
                    smaller = Some((candidate, next_parts));
                    break;
                }
                Verdict::Fails => {}
                Verdict::OutOfBudget => return out_of_budget(&current),
            }
        }
        match smaller {
            Some((candidate, next_parts)) => (current, parts) = (candidate, next_parts),
            None if parts >= current.len() => break,
            None => parts = (parts * 2).min(current.len()),
        }
    }
    Ok(Found { items: set(&current), complete: true })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn search(count: usize, needed: &BTreeSet<usize>, budget: usize) -> (Found, usize) {
        let mut checks = 0;
        let found = smallest_passing::<Infallible>((0..count).collect(), &mut |set| {
            if checks == budget {
                return Ok(Verdict::OutOfBudget);
            }
            checks += 1;
            Ok(if needed.is_subset(set) { Verdict::Passes } else { Verdict::Fails })
        });
        (found.unwrap(), checks)
    }

    proptest! {
        #[test]
        fn exactly_the_needed_items_are_found(count in 1usize..300, seeds in prop::collection::vec(any::<usize>(), 0..5)) {
            let needed: BTreeSet<usize> = seeds.iter().map(|seed| seed % count).collect();
            let (found, _) = search(count, &needed, usize::MAX);
            prop_assert_eq!(found, Found { items: needed, complete: true });
        }

        #[test]
        fn a_budget_gives_a_set_that_passes(count in 1usize..300, seed in any::<usize>(), budget in 0usize..20) {
            let needed = BTreeSet::from([seed % count]);
            let (found, checks) = search(count, &needed, budget);
            prop_assert!(needed.is_subset(&found.items));
            prop_assert!(checks <= budget);
        }
    }

    #[test]
    fn neighbours_are_found_in_few_checks() {
        let (found, checks) = search(1000, &BTreeSet::from([500, 501, 502]), usize::MAX);
        assert_eq!(found.items.len(), 3);
        assert!(checks < 60, "{checks}");
    }

    #[test]
    fn nothing_is_found_where_nothing_is_needed() {
        assert_eq!(search(8, &BTreeSet::new(), usize::MAX).0.items, BTreeSet::new());
        assert_eq!(search(0, &BTreeSet::new(), 0).0, Found { items: BTreeSet::new(), complete: true });
    }
}
