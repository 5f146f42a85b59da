//! `nestling remove`.

use super::*;

#[test]
fn removed_vectors_are_gone() {
    let work = Workplace::with_store();
    // Overlapping ranges, a key named twice, and keys that do not exist.
    let outcome = work.json(["remove", "s", "c", "--keys", "1,2,5-9,8-12,1,498-505"]);
    assert_eq!((&outcome["removed"], &outcome["missing"]), (&Value::from(12), &Value::from(6)));
    let removed: BTreeSet<u64> = [1, 2].into_iter().chain(5..=12).chain(498..=499).collect();
    let left: Vec<u64> = (0..ROWS as u64).filter(|key| !removed.contains(key)).collect();
    assert_eq!(work.contents("s").iter().map(|(key, _)| *key).collect::<Vec<_>>(), left);
    let found = keys(&work.json(["search", "s", "c", "--key", "0", "-k", "500"]));
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), left.into_iter().collect());
    assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));
    assert_eq!(
        work.succeeds(["remove", "s", "c", "--keys", "0-20"]),
        "11 vectors removed, 10 of the keys had none\n"
    );
}

/// A range is not counted through: this one would take centuries.
#[test]
fn a_range_may_be_as_wide_as_keys_go() {
    let work = Workplace::with_store();
    let outcome = work.json(["remove", "s", "c", "--keys", "100-18446744073709551615"]);
    assert_eq!(outcome["removed"], ROWS - 100);
    assert_eq!(outcome["missing"], u64::MAX - 499);
    assert_eq!(work.contents("s").len(), 100);
}
