//! `nestling import`: keys, definitions, and what a bad row leaves.

use super::*;

#[test]
fn an_import_stores_every_row_under_its_key() {
    let work = Workplace::new();
    let summary = work.json(["import", "s", "c", "base.fvecs", "--batch", "64"]);
    assert_eq!(summary["inserted"], ROWS);
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    assert!(summary["vectors_per_second"].as_f64().unwrap() > 0.0);
    // At least the vectors themselves must be there.
    assert!(summary["bytes_on_disk"].as_u64().unwrap() >= (ROWS * WIDTH * 4) as u64);
    let expected: Vec<_> = (0..).zip(work.base.clone()).collect();
    assert_eq!(work.contents("s"), expected);
    assert_eq!(work.json(["stats", "s"])["commit"], ROWS.div_ceil(64), "one commit per batch");
    let printed = work.succeeds(["import", "another", "c", "base.fvecs", "--threads", "2"]);
    assert!(printed.starts_with("500 vectors in "), "{printed}");
}

#[test]
fn halves_add_up_to_the_whole() {
    let work = Workplace::with_store();
    work.succeeds(["import", "halves", "c", "base.fvecs", "--limit", "230"]);
    assert_eq!(work.contents("halves").len(), 230);
    work.succeeds(["import", "halves", "c", "base.fvecs", "--skip", "230", "--first-key", "230"]);
    assert_eq!(work.contents("halves"), work.contents("s"));
    for row in ["0", "17", "39"] {
        // As wide as the collection, so that the graph does not matter.
        let search = |store| {
            work.json(["search", store, "c", "--queries", "query.fvecs", "--row", row, "--ef", "500"])
        };
        assert_eq!(search("halves")["hits"], search("s")["hits"]);
    }
    assert!(work.succeeds(["check", "halves"]).ends_with("no problems\n"));
}

/// `--first-key` is the key of the first row that is imported, not of the file's first row.
#[test]
fn keys_count_from_the_first_row_imported() {
    let work = Workplace::new();
    let options = ["--skip", "10", "--limit", "3", "--first-key", "700", "--batch", "2"];
    work.succeeds(["import", "s", "c", "base.fvecs"].into_iter().chain(options));
    let expected: Vec<_> = (700..).zip(work.base[10..13].to_vec()).collect();
    assert_eq!(work.contents("s"), expected);
    // The last key there is can be used, and the one after it cannot.
    work.succeeds(["import", "s", "c", "base.fvecs", "--limit", "1", "--first-key", "18446744073709551615"]);
    assert_eq!(work.contents("s").last().unwrap().0, u64::MAX);
    work.fails(
        ["import", "s", "c", "base.fvecs", "--skip", "5", "--first-key", "18446744073709551612"],
        &["row 9 of base.fvecs", "--first-key"],
    );
    assert_eq!(work.contents("s").len(), 4);
}

#[test]
fn an_import_over_existing_keys_replaces_them() {
    let work = Workplace::with_store();
    work.succeeds(["import", "s", "c", "base.fvecs", "--skip", "490"]);
    let contents = work.contents("s");
    assert_eq!(contents.len(), ROWS);
    assert_eq!(contents[3].1, work.base[493]);
    assert_eq!(contents[10].1, work.base[10]);
    let stats = work.json(["stats", "s"]);
    assert_eq!(stats["collections"][0]["dead_slots"], 10, "an update frees the old slot");
    assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));
}

#[test]
fn what_is_left_unstated_is_what_is_stored() {
    let work = Workplace::new();
    let stated = ["--metric", "l2", "--m", "8", "--ef-construction", "40", "--seed", "5", "--limit", "50"];
    work.succeeds(["import", "s", "c", "base.fvecs"].into_iter().chain(stated));
    work.succeeds(["import", "s", "c", "base.fvecs"]);
    let collection = &work.json(["stats", "s"])["collections"][0];
    assert_eq!(
        ["metric", "m", "m0", "ef_construction", "seed", "vectors"].map(|name| collection[name].clone()),
        [Value::from("l2"), 8.into(), 16.into(), 40.into(), 5.into(), ROWS.into()]
    );
    for (option, value, parameter) in
        [("--metric", "dot", "metric l2"), ("--m", "9", "m 8"), ("--seed", "6", "seed 5")]
    {
        work.fails(
            ["import", "s", "c", "base.fvecs", option, value],
            &[parameter, value, "leave that option out"],
        );
    }
    // A parameter of insertions only, which may change.
    work.succeeds(["import", "s", "c", "base.fvecs", "--limit", "1", "--ef-construction", "60"]);
    assert_eq!(work.json(["stats", "s"])["collections"][0]["ef_construction"], 60);
}

#[test]
fn a_collection_imported_without_codes_stays_so_and_is_searched_as_any_other() {
    let work = Workplace::new();
    work.succeeds(["import", "s", "c", "base.fvecs", "--no-codes", "--limit", "100"]);
    work.succeeds(["import", "s", "c", "base.fvecs"]);
    assert!(work.succeeds(["stats", "s"]).contains("codes           none"));
    assert_eq!(work.json(["stats", "s"])["collections"][0]["codes"], "none");
    let bench = work.json(["bench", "s", "c", "--queries", "query.fvecs", "--ef", "500"]);
    assert_eq!(bench["recall"], 1.0);
    assert!(work.succeeds(["check", "s"]).ends_with("no problems\n"));

    work.succeeds(["import", "s", "coded", "base.fvecs"]);
    assert_eq!(work.json(["stats", "s"])["collections"][1]["codes"], "7-bit");
    work.fails(["import", "s", "coded", "base.fvecs", "--no-codes"], &["codes 7-bit", "none"]);
}

#[test]
fn a_collection_takes_the_element_type_that_its_first_import_asks_for() {
    let work = Workplace::new();
    work.succeeds(["import", "s", "c", "base.fvecs", "--element", "f16", "--limit", "100"]);
    work.succeeds(["import", "s", "c", "base.fvecs"]);
    assert_eq!(work.json(["stats", "s"])["collections"][0]["element"], "f16");
    assert!(work.succeeds(["collections", "s"]).contains("f16"));
    work.fails(["import", "s", "c", "base.fvecs", "--element", "i8"], &["element f16", "i8"]);
}

#[test]
fn a_file_that_cannot_be_imported_leaves_no_store() {
    let work = Workplace::new();
    work.write("empty.fvecs", &[]);
    work.write("text.fvecs", b"these are not vectors");
    work.write("short.fvecs", &fvecs(&work.base)[..40]);
    let cases: [(&[&str], &[&str]); 6] = [
        (&["missing.fvecs"], &["cannot read missing.fvecs", "check the path"]),
        (&["."], &["cannot read ."]),
        (&["empty.fvecs"], &["empty.fvecs is empty"]),
        (&["text.fvecs"], &["row 0 of text.fvecs", "TEXMEX"]),
        (&["short.fvecs"], &["short.fvecs ends inside row 0, after 40 of its 68 bytes"]),
        (&["base.fvecs", "--skip", "500"], &["base.fvecs has 500 rows", "--skip 500", "skip fewer"]),
    ];
    for (arguments, parts) in cases {
        work.fails(["import", "s", "c"].into_iter().chain(arguments.iter().copied()), parts);
        assert!(!work.path("s").exists(), "{arguments:?} left a store behind");
    }
}

/// The story of a long import that meets a bad row: the batches before it stay, the message tells how to go on, and following it
/// gives the same collection as an import without the mishap.
#[test]
fn an_interrupted_import_can_be_taken_up_again() {
    let whole = fvecs(&Workplace::new().base);
    let row = 4 + 4 * WIDTH;
    let mut with_nan = whole.clone();
    with_nan[row * 123 + 4 + 4 * 7..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut with_zeros = whole.clone();
    with_zeros[row * 123 + 4..row * 124].fill(0);
    let mut with_wider_row = whole.clone();
    with_wider_row[row * 123] += 1;
    let cases: [(&[u8], &str); 4] = [
        (&with_nan, "row 123 of bad.fvecs has NaN at component 7"),
        (&with_zeros, "row 123 of bad.fvecs has a norm of 0e0"),
        (&with_wider_row, "row 123 of bad.fvecs has a width of 17, the rows before it 16"),
        (&whole[..row * 123 + 50], "bad.fvecs ends inside row 123, after 50 of its 68 bytes"),
    ];
    for (bad, complaint) in cases {
        let work = Workplace::new();
        work.write("bad.fvecs", bad);
        let message = work.fails(
            ["import", "s", "c", "bad.fvecs", "--skip", "10", "--first-key", "10", "--batch", "50"],
            &[complaint, "100 rows were imported before that", "--skip 110 --first-key 110"],
        );
        let imported = work.contents("s");
        let expected: Vec<_> = (10..).zip(work.base[10..110].to_vec()).collect();
        assert_eq!(imported, expected, "the batches before the bad row, and nothing of its own");
        let advice = message.trim_end().split_once("go on from there with ").unwrap().1;
        work.succeeds(["import", "s", "c", "base.fvecs"].into_iter().chain(advice.split(' ')));
        let expected: Vec<_> = (10..).zip(work.base[10..].to_vec()).collect();
        assert_eq!(work.contents("s"), expected);
    }
}

#[test]
fn advice_after_an_interruption_respects_the_limit() {
    let work = Workplace::new();
    let mut bad = fvecs(&work.base);
    bad.truncate(bad.len() - 1);
    work.write("bad.fvecs", &bad);
    work.fails(
        ["import", "s", "c", "bad.fvecs", "--skip", "300", "--limit", "200", "--batch", "150"],
        &["bad.fvecs ends inside row 499, after 67 of its 68 bytes", "--skip 450 --first-key 150 --limit 50"],
    );
    // Up to the row that is cut off everything can be had.
    work.succeeds(["import", "s", "c", "bad.fvecs", "--skip", "300", "--limit", "199"]);
    assert_eq!(work.contents("s").len(), 199);
}

#[test]
fn vectors_of_another_dimension_are_refused() {
    let work = Workplace::with_store();
    work.write("narrow.fvecs", &fvecs(&[vec![1.0; 8]]));
    let parts = ["row 0 of narrow.fvecs has 8 components", "\"c\" has dimension 16"];
    work.fails(["import", "s", "c", "narrow.fvecs"], &parts);
    work.fails(["search", "s", "c", "--queries", "narrow.fvecs", "--row", "0"], &parts);
    work.fails(["bench", "s", "c", "--queries", "narrow.fvecs"], &parts);
    work.succeeds(["import", "s", "narrow", "narrow.fvecs"]);
}
